"""Several tiers to one, for training: unfit rows, repetitions and what evaluations ask are left out of the train split.

Dev and held-out rows stay as they are, but for pairs that two tiers both have. The new tier links the shards of the old
ones and has an index of its own, so it takes no disk to speak of; a report and a data card lie in its folder.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from rich.progress import Progress

from commonspace.data.shard_join import join_split
from commonspace.errors import ConfigError, DataError
from data_prep.build import build_progress, read_manifest
from data_prep.building import alone
from data_prep.merge import MANIFEST, replace_folder
from data_prep.quality import card
from data_prep.quality.agreement import Scores
from data_prep.quality.languages import identify
from data_prep.quality.leaks import LEAST_CHARACTERS, Leaks, find_leaks, together, told
from data_prep.quality.likeness import RULE, Likeness, Vectors, find_like
from data_prep.quality.report import manifest_of, not_scored_of, report_of
from data_prep.quality.rules import Limits, Nearness, exact, repeated, same, unfit
from data_prep.quality.signals import SCHEMA, Split, measure
from data_prep.split import SPLITS

REPORT = "quality.json"


@dataclass(frozen=True)
class MixOptions:
    """How a mixture is made.

    against     further tiers whose dev and held-out rows training must not hold
    duplicates  pair: rows of which both sides came before; medium: also those whose picture, sound or clip did; none
    leaks       drop the rows that hold what an evaluation asks, or refuse to write a tier that has any
    likeness    also compare training with evaluation rows by the vectors of a model; None: no model loads
    model       folder of the model that scores how well the sides of a row agree; None: no scores
    """

    against: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    nearness: Nearness = field(default_factory=Nearness)
    duplicates: Literal["pair", "medium", "none"] = "pair"
    leaks: Literal["drop", "refuse"] = "drop"
    least_characters: int = LEAST_CHARACTERS
    likeness: Likeness | None = None
    model: Path | None = None
    batch_tokens: int = 8192

    def __post_init__(self) -> None:
        for name, known in (("duplicates", ("pair", "medium", "none")), ("leaks", ("drop", "refuse"))):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name}: {getattr(self, name)!r} is none of {', '.join(known)}")
        for name in ("least_characters", "batch_tokens"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ConfigError(f"{name}: {value!r} is no whole number of 1 or more")


def mix(
    tiers: Sequence[str], output: str, data: Path, cache: Path, options: MixOptions, workers: int = 2
) -> dict[str, Any]:
    """Write `<data>/<output>` of the tiers in the order of their precedence; return its report.

    Raises:
        ConfigError: a tier is missing or named twice, or a folder holds no model.
        DataError: its shards are damaged, no training row is left, another process builds the same, or, with
            leaks=refuse, some hold what is evaluated.
    """
    _check(tiers, output, data, options)
    splits = [split for tier in tiers for split in splits_of(data / tier, tier)]
    others = [split for tier in options.against for split in splits_of(data / tier, tier) if split.side != "train"]
    train, held = (
        [one for one in splits if one.side == "train"],
        [one for one in splits if one.side != "train"] + others,
    )
    vectors = None if options.likeness is None else Vectors(options.likeness, cache, options.batch_tokens)
    scorer = None if options.model is None else Scores(options.model, cache, options.batch_tokens)
    with alone(data / output), build_progress() as progress:
        tables = measure([*splits, *others], cache, workers, options.least_characters, progress)
        scores = _agreement(train, scorer, options, progress) if scorer else {}
        table_of = dict(zip([*splits, *others], tables, strict=True))
        if options.limits.language is not None:
            for split, heard in zip(train, identify(train, cache, workers, progress), strict=True):
                for name in heard.column_names:
                    table_of[split] = table_of[split].append_column(name, heard.column(name))
        alike = find_like(train, held, table_of, vectors, options.least_characters, progress) if vectors else {}
        reasons = _reasons(splits, others, table_of, scores, alike, options, progress)
        not_scored = not_scored_of(scores, vectors.not_scored if vectors else {})
        report = report_of(tiers, options, splits, others, table_of, reasons, scores) | {"not_scored": not_scored}
        _write(data / output, tiers, data, splits, reasons, report, progress)
    return report


def _check(tiers: Sequence[str], output: str, data: Path, options: MixOptions) -> None:
    if len(set(tiers)) != len(tiers) or not tiers:
        raise ConfigError(f"tiers: {list(tiers)} must name one tier or several, each once")
    if output in (*tiers, *options.against):
        raise ConfigError(f"output: {output} is one of the tiers it is made of; give it a name of its own")
    for tier in (*tiers, *options.against):
        if read_manifest(data / tier) is None:
            raise ConfigError(f"tiers: {data / tier} holds no {MANIFEST}; build it first")


def splits_of(folder: Path, tier: str) -> list[Split]:
    """Every split of every task of a tier."""
    found = [(path.parent.name, path.stem, path.parent) for path in sorted(folder.glob("*/*.json"))]
    return [Split(tier, task, side, place) for task, side, place in found if side in SPLITS]


def _agreement(
    train: Sequence[Split], scorer: Scores, options: MixOptions, progress: Progress
) -> dict[Split, np.ndarray]:
    tasks = options.limits.agreement
    wanted = [split for split in train if not tasks or split.task in tasks]
    return dict(zip(wanted, scorer.of(wanted, progress), strict=True))


def _reasons(
    splits: Sequence[Split],
    others: Sequence[Split],
    table_of: dict[Split, pa.Table],
    scores: dict[Split, np.ndarray],
    alike: dict[Split, np.ndarray],
    options: MixOptions,
    progress: Progress,
) -> dict[Split, np.ndarray]:
    """Why each row of each split is left out, "" where it stays."""
    found = {split: np.full(len(table_of[split]), "", object) for split in splits}
    held = [split for split in splits if split.side != "train"]
    for task in sorted({split.task for split in splits}):
        for sides in (("heldout", "dev"), ("train",)):
            some = [split for side in sides for split in splits if split.task == task and split.side == side]
            if not some:
                continue
            if sides == ("train",):
                for split in some:
                    found[split] = unfit(table_of[split], task, options.limits, scores.get(split))
            _mark_repeated(some, table_of, found, options if sides == ("train",) else None)
    asked = together([table_of[split] for split in [*held, *others]], SCHEMA)
    train = [split for split in splits if split.side == "train"]
    bar = progress.add_task("look for what is evaluated", total=len(train))
    refused = []
    for split in train:
        kept = np.flatnonzero(found[split] == "")
        rows = table_of[split].take(pa.array(kept))
        leaking = (
            find_leaks(rows, asked, options.nearness, options.least_characters) if len(asked) else Leaks(_none(rows))
        )
        if split in alike:
            leaking.reasons[(leaking.reasons == "") & alike[split][kept]] = RULE
        refused.append(told(leaking, rows, f"{split.tier}/{split.task}"))
        found[split][kept] = np.where(leaking.reasons == "", "", "evaluated: " + leaking.reasons.astype(object))
        progress.advance(bar)
    if options.leaks == "refuse" and any(refused):
        raise DataError("\n".join([*filter(None, refused), "leaks=drop leaves them out"]))
    return found


def _none(rows: pa.Table) -> np.ndarray:
    return np.full(len(rows), "", object)


def _mark_repeated(
    splits: Sequence[Split],
    table_of: dict[Split, pa.Table],
    found: dict[Split, np.ndarray],
    options: MixOptions | None,
) -> None:
    """Mark what an earlier row of these splits, of one task, already has; without options only pairs of equal bytes."""
    places = [(split, row) for split in splits for row in np.flatnonzero(found[split] == "")]
    if not places:
        return
    table = pa.concat_tables([table_of[split].filter(pa.array(found[split] == "")) for split in splits])
    why = np.where(repeated(exact(table)), "repeated pair", "").astype(object)
    if options is not None and options.duplicates != "none":
        alike = same(table, options.nearness)
        fresh = np.flatnonzero(why == "")
        why[fresh[repeated(alike[fresh])]] = "near-repeated pair"
        if options.duplicates == "medium":
            why[(why == "") & _medium_again(table, alike)] = "repeated medium"
    for (split, row), reason in zip(places, why, strict=True):
        found[split][row] = reason


def _medium_again(table: pa.Table, alike: np.ndarray) -> np.ndarray:
    again = np.zeros(len(table), bool)
    for number, side in enumerate(("query", "positive")):
        media = np.array(
            [kind in ("image", "audio", "video") for kind in table.column(f"{side}_kind").to_pylist()], bool
        )
        rows = np.flatnonzero(media)
        _, first = np.unique(alike[rows, number], return_index=True)
        later = np.ones(len(rows), bool)
        later[first] = False
        again[rows[later]] = True
    return again


def _write(
    target: Path,
    tiers: Sequence[str],
    data: Path,
    splits: Sequence[Split],
    reasons: dict[Split, np.ndarray],
    report: dict[str, Any],
    progress: Progress,
) -> None:
    if not any(counts["train"] for counts in report["tasks"].values()):
        raise DataError(f"{target}: no training row is left; left out were {report['dropped']}")
    manifests = {tier: read_manifest(data / tier) or {} for tier in tiers}
    fresh = target.with_name(f".{target.name}-building")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir(parents=True)
        names = sorted({(split.task, split.side) for split in splits})
        bar = progress.add_task("write", total=len(names))
        for task, side in names:
            some = [split for split in splits if (split.task, split.side) == (task, side)]
            readers = [(split.reader, reasons[split] == "") for split in some]
            licences = {name: text for reader, _ in readers for name, text in reader.licences.items()}
            join_split(fresh / task, task, side, readers, licences)
            progress.advance(bar)
        manifest = manifest_of(target.name, manifests, report)
        for name, value in ((REPORT, report), (MANIFEST, manifest)):
            (fresh / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        (fresh / card.NAME).write_text(card.page(manifest, report), encoding="utf-8")
        replace_folder(target, fresh)
    except OSError as error:
        raise DataError(f"{fresh}: cannot be written ({error.strerror or error}); free space, then go on") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
