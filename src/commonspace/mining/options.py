"""Options of mining, and what is refused before anything loads; nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from commonspace.errors import ConfigError

SELECTIONS = ("top", "lowest", "rank", "random")
ORDERS = ("teachers", "search")
SEARCHES = ("exact", "approximate")
DIRECTIONS = ("forward", "reverse")
SIGNALS = ("grade", "likelihood")
# Kinds of teachers, and what each needs and may have beside `kind`.
TEACHERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "embedder": (("model",), ("prefixes",)),
    "vectors": (("folder",), ()),
    "scores": (("file",), ()),
    "cross_encoder": (("model",), ("batch", "max_tokens")),
    "transcriber": (("model",), ("batch", "language")),
    "generative": (("model",), ("batch", "signal", "prompt", "answers", "precision", "max_tokens")),
}
_DEFAULTS: dict[str, Any] = {
    "prefixes": False, "batch": 16, "max_tokens": 512, "signal": "grade", "prompt": None, "answers": ("no", "yes"),
    "precision": "float32", "language": None,
}  # fmt: skip
_DEFAULTS_OF: dict[str, dict[str, Any]] = {"generative": {"max_tokens": 8192}}  # pictures are many


@dataclass(frozen=True)
class MiningOptions:
    """Which neighbours are candidates, and which of them are kept.

    count    hard negatives kept a query, at most
    skip     ranks left out at the top, counted among what is not known to be correct
    depth    last rank that is looked at
    margin   a neighbour scoring above the positive's score less (1 - `margin`) of its size is taken for another correct
             answer (NV-Retriever's TopK-PercPos at 0.95); None: no rule
    absolute_margin  the same for the positive's score less this number (its TopK-MarginPos)
    max_score, min_score  bounds of a neighbour's own score (its TopK-Abs)
    duplicate  a target whose cosine with the query's own target is above it is another copy of that; None: no rule
    teacher_margin   `margin` for each teacher's scores, against its score of the positive
    order    teachers | search: candidates come in the teachers' fused order, without teachers by rank; or by rank all
             the same, and teachers take out alone
    selection  top | lowest | rank | random, of candidates in that order
    rank     where `rank` begins
    """

    count: int = 4
    skip: int = 0
    depth: int = 100
    margin: float | None = 0.95
    absolute_margin: float | None = None
    max_score: float | None = None
    min_score: float | None = None
    duplicate: float | None = None
    teacher_margin: float | None = None
    order: str = "teachers"
    selection: str = "top"
    rank: int | None = None

    def __post_init__(self) -> None:
        if self.count < 1 or self.skip < 0 or self.depth < self.skip + self.count:
            raise ConfigError(f"mining keeps count of the ranks skip+1..depth; these do not fit: {self}")
        for name in ("margin", "teacher_margin"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise ConfigError(f"mining {name} must lie in (0, 1], not {value}")
        if self.absolute_margin is not None and self.absolute_margin < 0:
            raise ConfigError(f"mining absolute_margin must not be negative, it is {self.absolute_margin}")
        if self.duplicate is not None and not -1 <= self.duplicate < 1:
            raise ConfigError(f"mining duplicate is a cosine below 1, not {self.duplicate}")
        if None not in (self.min_score, self.max_score) and self.min_score >= self.max_score:
            raise ConfigError(f"mining min_score={self.min_score} must lie below max_score={self.max_score}")
        if self.order not in ORDERS:
            raise ConfigError(f"mining order={self.order!r} is none of {', '.join(ORDERS)}")
        if self.order == "search" and self.teacher_margin is None:
            raise ConfigError("mining order=search leaves teachers their margin alone; set teacher_margin, as 0.95")
        if self.selection not in SELECTIONS:
            raise ConfigError(f"mining selection={self.selection!r} is none of {', '.join(SELECTIONS)}")
        if (self.rank is not None) != (self.selection == "rank"):
            raise ConfigError(f"mining rank={self.rank} goes with selection=rank, as in selection=rank rank=20")
        if self.rank is not None and not self.skip < self.rank <= self.depth:
            raise ConfigError(f"mining rank={self.rank} must lie in skip+1..depth, {self.skip + 1}..{self.depth}")

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> MiningOptions:
        """Those of a composed config."""
        return cls(**{field.name: config[field.name] for field in fields(cls)})


DEFAULTS = MiningOptions()


@dataclass(frozen=True)
class TeacherOptions:
    """One entry of `teachers`: its kind, and the options of that kind with their defaults.

    Raises ConfigError for an unknown kind, an option the kind does not read, and a value outside its range.
    """

    kind: str
    given: Mapping[str, Any]

    @classmethod
    def of(cls, entry: Any) -> TeacherOptions:
        """From an entry of the config, a mapping with `kind`."""
        if not isinstance(entry, Mapping) or entry.get("kind") not in TEACHERS:
            raise ConfigError(f"teachers: {entry!r} must be a mapping with kind, one of {', '.join(TEACHERS)}")
        needs, may = TEACHERS[entry["kind"]]
        given = {key: value for key, value in entry.items() if key != "kind"}
        if missing := [key for key in needs if given.get(key) is None]:
            raise ConfigError(f"teachers: kind={entry['kind']} needs {', '.join(missing)}")
        if unknown := sorted(set(given) - {*needs, *may}):
            known = ", ".join((*needs, *may))
            raise ConfigError(f"teachers: kind={entry['kind']} does not read {', '.join(unknown)}; it reads {known}")
        options = {key: _DEFAULTS[key] for key in may} | _DEFAULTS_OF.get(entry["kind"], {}) | given
        _check_teacher(entry["kind"], given, options)
        return cls(entry["kind"], options)

    @property
    def name(self) -> str:
        """What reports call it."""
        source = next(self.given[key] for key in ("model", "folder", "file") if key in self.given)
        signal = f" {self.given['signal']}" if "signal" in self.given else ""
        return f"{self.kind}{signal} {source}"


def _check_teacher(kind: str, given: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    if options.get("signal", "grade") not in SIGNALS:
        raise ConfigError(f"teachers: signal={options['signal']!r} is none of {', '.join(SIGNALS)}")
    if options.get("signal") == "likelihood" and "answers" in given:
        raise ConfigError("teachers: answers are graded; signal=likelihood does not read them")
    if len(options.get("answers", ("no", "yes"))) < 2:
        raise ConfigError("teachers: answers needs at least two words, the worst first")
    for key in ("batch", "max_tokens"):
        if key in options and (not isinstance(options[key], int) or options[key] < 1):
            raise ConfigError(f"teachers: {key}={options[key]!r} of kind={kind} must be a whole number above 0")
    if options.get("precision", "float32") not in ("float32", "bfloat16"):
        raise ConfigError(f"teachers: precision={options['precision']!r} is float32 or bfloat16")


def teachers_of(entries: Sequence[Any], options: MiningOptions) -> list[TeacherOptions]:
    """All teachers of a config. Raises ConfigError for two alike, and for what has no effect without any."""
    found = [TeacherOptions.of(entry) for entry in entries]
    for place, one in enumerate(found):
        if one in found[:place]:
            raise ConfigError(f"teachers: {one.name} is named twice")
    if not found and options.teacher_margin is not None:
        raise ConfigError("teacher_margin: has no effect without teachers; set it to null, or name some")
    return found


def findings(config: Mapping[str, Any]) -> list[str]:
    """What is wrong in a composed config of `mine`, as "key: what; what to do"."""
    found: list[str] = []
    try:
        teachers_of(config["teachers"], MiningOptions.of(config))
    except ConfigError as error:
        found.append(str(error))
    if config["search"] not in SEARCHES:
        found.append(f"search: {config['search']!r} is none of {', '.join(SEARCHES)}")
    idle = {"graph_rows": 250_000, "expansion": 256}
    for key, default in idle.items():
        if config["search"] == "exact" and config[key] != default:
            found.append(f"{key}: has no effect on search=exact; leave it out, or use search=approximate")
    if not config["directions"] or set(config["directions"]) - set(DIRECTIONS):
        found.append(f"directions: {config['directions']} must be some of {', '.join(DIRECTIONS)}")
    return found
