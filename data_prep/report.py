"""What a built tier holds, as a page: rows by kind and language, licences, examples, drops, pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from commonspace.content import Content, Document, Text
from commonspace.data.sample import Record
from commonspace.data.shards import ShardReader
from commonspace.errors import DataError
from commonspace.files import write_text
from data_prep.build import read_manifest
from data_prep.contact_sheet import write_sheet
from data_prep.source import INCLUDED_TIERS
from data_prep.sources import all_sources
from data_prep.split import SPLITS

_EXAMPLES = 3  # per source and task
_PICTURES = 40  # on a contact sheet
_CHARACTERS = 110  # of an example
_LANGUAGES = 60
_MAIN_TIER = "mini"
_INCLUDES_OTHERS = (
    "",
    "This tier has all rows of the smaller ones, and what is held out there is held out here. Speech of a synthesizer,",
    "triples of one label, and what is generated of other rows without a model (cldr-keywords, round-trip,",
    "docstring-variants) are for training alone: they are left out where a row that they are made of is on dev or held",
    "out.",
)
_PUBLIC_SETS = (
    "",
    "Published sets that `commonspace data build public` reads are on [a page of their own](public_sets.md).",
)
_SYNTHESIZER = "espeak"  # the source whose clips nobody recorded
_FAMILIES = {
    "copyleft": ("AGPL", "GPL", "Arphic"),
    "documentation": ("GFDL",),
    "share_alike": ("CC-BY-SA",),
    "permissive": ("Public domain", "CC0", "MIT", "BSD", "Unicode", "Apache", "WordNet"),
}


def write_report(tier: str, folder: Path, docs: Path, cache: Path) -> Path:
    """Write `<docs>/data.md` (`data-<tier>.md` for other tiers than mini) and contact sheets; return the page.

    Raises:
        DataError: the tier was not built, or its shards are broken.
    """
    manifest = read_manifest(folder)
    if manifest is None or "task_kinds" not in manifest:  # an older build counted less
        problem = "nothing was built there" if manifest is None else "was built by an older version"
        if manifest and "mixed_of" in manifest:
            raise DataError(f"{folder}: is a mixture, README.md there is its card; data.folder names what it is of")
        raise DataError(f"{folder}: {problem}; run `commonspace data build data.tier={tier}`")
    sheets = docs / "results" / "data"
    sheets.mkdir(parents=True, exist_ok=True)
    page = docs / ("data.md" if tier == _MAIN_TIER else f"data-{tier}.md")
    lines = [*_head(tier, manifest), *_sources_table(tier, manifest), "", *_tasks_table(manifest, folder), ""]
    lines += [*_kinds_table(manifest), *_synthetic_speech(manifest), "", *_languages_table(manifest), ""]
    shown = {name: source for name, source in manifest["sources"].items() if not _elsewhere(tier, name)}
    if len(shown) < len(manifest["sources"]):
        lines += [
            f"What a smaller tier has too is shown [there](data.md): {_inner_names(tier, manifest)}.",
            "",
        ]
    for name, source in shown.items():
        samples = _samples(folder, name, source)
        sheet = None
        if source["role"] != "zero_shot":  # their pictures are for scoring only; docs show none of them
            sheet = write_sheet(_training_rows(folder, name, source), sheets / f"{tier}-{name}.png")
        lines += [*_source_section(name, source, samples, sheet, docs, cache), ""]
    lines += [*_merged(manifest), ""]
    if tier in INCLUDED_TIERS:
        lines += [Path(__file__).with_name("left_out.md").read_text(encoding="utf-8")]
    lines += [_licence_section(tier, manifest)]
    write_text(page, "\n".join(lines).rstrip() + "\n")
    return page


def _head(tier: str, manifest: Mapping[str, Any]) -> list[str]:
    rows = sum(source["rows"] for source in manifest["sources"].values())
    size = sum(file["bytes"] for file in _files(manifest).values()) / 1e6
    return [
        f"# Data of the {tier} tier",
        "",
        f"<!-- written by `commonspace data report data.tier={tier}`; do not edit -->",
        "",
        f"{rows:,} rows of {len(manifest['sources'])} sources; {size:.1f} MB to download. "
        f"Build `{manifest['fingerprint'][:12]}`.",
        "",
        "A row is a query and what answers it. Its *concept* decides its split: the normalised English title (manuals",
        "by page, code by module, sprites by mesh family), hashed; one concept lies on one side over all tasks and",
        "sources. Rows of *zero-shot* sources and tasks are held out as a whole.",
        *(_INCLUDES_OTHERS if tier in INCLUDED_TIERS else ()),
        *(_PUBLIC_SETS if tier == _MAIN_TIER else ()),
        "",
    ]


def _files(manifest: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """{file name: its pin} over all packages; a package that two sources read counts once."""
    known = all_sources()
    packages = [package for name in manifest["sources"] if name in known for package in known[name].packages]
    return {package.filename: {"bytes": package.bytes, "sha256": package.sha256} for package in packages}


def _sources_table(tier: str, manifest: Mapping[str, Any]) -> list[str]:
    lines = ["| source | licence | role | train | dev | held-out |", "| --- | --- | --- | ---: | ---: | ---: |"]
    for name, source in manifest["sources"].items():
        sides = [sum(tally[side] for tally in source["tasks"].values()) for side in SPLITS]
        counts = " | ".join(f"{count:,}" for count in sides)
        page = "data.md" if _elsewhere(tier, name) else ""
        lines.append(f"| [{name}]({page}#{name}) | {source['licence']} | {_role(source)} | {counts} |")
    return lines


def _elsewhere(tier: str, name: str) -> bool:
    """Whether a source is shown on the main tier's page, where this tier includes that; tiny has no page in docs."""
    source = all_sources().get(name)
    return bool(source and _MAIN_TIER in source.tiers & {*INCLUDED_TIERS.get(tier, ())})


def _inner_names(tier: str, manifest: Mapping[str, Any]) -> str:
    return ", ".join(name for name in manifest["sources"] if _elsewhere(tier, name))


def _kinds_table(manifest: Mapping[str, Any]) -> list[str]:
    """Rows by modality, over all tasks."""
    kinds: dict[str, dict[str, int]] = {}
    for task, tally in manifest["task_kinds"].items():
        for kind, count in tally.items():
            kinds.setdefault(kind, {})[task] = count
    lines = ["| modality | rows | tasks |", "| --- | ---: | --- |"]
    for kind, tasks in sorted(kinds.items(), key=lambda item: -sum(item[1].values())):
        listed = ", ".join(f"{task} {count:,}" for task, count in sorted(tasks.items(), key=lambda item: -item[1]))
        lines.append(f"| {kind} | {sum(tasks.values()):,} | {listed} |")
    return lines


def _synthetic_speech(manifest: Mapping[str, Any]) -> list[str]:
    """How many clips of speech a synthesizer made; nothing where there are none."""
    if _SYNTHESIZER not in manifest["sources"]:
        return []
    made = sum(manifest["sources"][_SYNTHESIZER]["tasks"]["speech"].values())
    clips = sum(manifest["tasks"]["speech"].values())
    return ["", f"Speech: {clips - made:,} recorded and {made:,} synthetic (eSpeak NG, for training alone)."]


def _languages_table(manifest: Mapping[str, Any]) -> list[str]:
    """Rows by language, a line a task; a row that has several languages counts for each."""
    lines = ["| task | languages | rows that have each |", "| --- | ---: | --- |"]
    for task, tally in manifest["task_languages"].items():
        listed = ", ".join(f"{code} {count:,}" for code, count in tally.items())
        lines.append(f"| {task} | {len(tally)} | {listed} |")
    return lines


def _role(source: Mapping[str, Any]) -> str:
    if source["role"] == "zero_shot" or not source["zero_shot_tasks"]:
        return source["role"].replace("_", "-")
    return f"{source['role']}; zero-shot: {', '.join(source['zero_shot_tasks'])}"


def _tasks_table(manifest: Mapping[str, Any], folder: Path) -> list[str]:
    lines = [
        "| task | train | dev | held-out | held-out concepts | MB |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for task, tally in manifest["tasks"].items():
        counts = " | ".join(f"{tally[side]:,}" for side in SPLITS)
        concepts = len(set(ShardReader(folder / task, "heldout").column("concept"))) if tally["heldout"] else 0
        size = sum(path.stat().st_size for path in (folder / task).glob("*.tar")) / 1e6
        lines.append(f"| {task} | {counts} | {concepts:,} | {size:.1f} |")
    return lines


def _samples(folder: Path, name: str, source: Mapping[str, Any]) -> dict[str, list[Record]]:
    """{task: a few rows} of a source, spread over what it has."""
    found = {}
    for task, tally in source["tasks"].items():
        side = next(side for side in SPLITS if tally[side])
        reader = ShardReader(folder / task, side)
        rows = [row for row, owner in enumerate(reader.column("source")) if owner == name]
        found[task] = [reader.read(row) for row in rows[:: max(1, len(rows) // _EXAMPLES)][:_EXAMPLES]]
    return found


def _training_rows(folder: Path, name: str, source: Mapping[str, Any]) -> Iterator[Record]:
    """Rows of a source from the train split, spread over it, pictures and clips first in the order of its tasks."""
    for task, tally in source["tasks"].items():
        if not tally["train"]:
            continue
        reader = ShardReader(folder / task, "train")
        rows = [row for row, owner in enumerate(reader.column("source")) if owner == name]
        spread = rows[:: max(1, len(rows) // _PICTURES)]
        # every fifth first: a sheet of clips shows eight of them, and these too should be spread over the source
        yield from (reader.read(row) for start in range(5) for row in spread[start::5])


def _source_section(
    name: str,
    source: Mapping[str, Any],
    samples: Mapping[str, list[Record]],
    sheet: Path | None,
    docs: Path,
    cache: Path,
) -> list[str]:
    lines = [f"## {name}", "", f"{source['provenance']}. Licence: {source['licence']}.", ""]
    lines += [*_package_lines(name, cache), ""]
    lines += ["| task | train | dev | held-out |", "| --- | ---: | ---: | ---: |"]
    for task, tally in source["tasks"].items():
        lines.append(f"| {task} | " + " | ".join(f"{tally[side]:,}" for side in SPLITS) + " |")
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in source["kinds"].items())
    lines += ["", f"Rows by modality: {kinds}.", ""]
    if source["languages"]:
        listed = [f"{code} {count:,}" for code, count in source["languages"].items()]
        more = f" and {len(listed) - _LANGUAGES} more" if len(listed) > _LANGUAGES else ""
        lines += [f"Texts and sounds by language ({len(listed)}): {', '.join(listed[:_LANGUAGES])}{more}.", ""]
    if sheet is not None:
        lines += [f"![What {name} looks like]({sheet.relative_to(docs).as_posix()})", ""]
    lines += ["| task | query | answer |", "| --- | --- | --- |"]
    for task, records in samples.items():
        for record in records:
            lines.append(f"| {task} | {_shown(record.queries[0].content)} | {_shown(record.positives[0].content)} |")
    if source["drops"]:
        lines += ["", "Left out:", "", "| why | rows |", "| --- | ---: |"]
        lines += [
            f"| {_cell(why)} | {count:,} |" for why, count in sorted(source["drops"].items(), key=lambda item: -item[1])
        ]
    return lines


def _package_lines(name: str, cache: Path) -> list[str]:
    packages = all_sources()[name].packages if name in all_sources() else ()
    lines = []
    for package in packages:
        here = "" if (cache / "downloads" / package.filename).is_file() else ", not in this cache"
        lines.append(
            f"- `{package.name}` {package.version} ({package.client}, {package.bytes / 1e6:.1f} MB{here}), "
            f"sha256 `{package.sha256[:16]}...`"
        )
    return lines


def _shown(content: Content) -> str:
    """A content as one table cell: texts cut, media by their kind."""
    pieces = []
    for part in content.parts:
        if isinstance(part, Text):
            pieces.append(part.text)
        elif isinstance(part, Document):
            inner = [item.text if isinstance(item, Text) else f"[{type(item).__name__.lower()}]" for item in part.parts]
            pieces.append("[document: " + " / ".join(text[: _CHARACTERS // 2] for text in inner) + "]")
        else:
            pieces.append(f"[{type(part).__name__.lower()}]")
    return _cell(" ".join(pieces))


def _cell(text: str) -> str:
    flat = " ".join(text.split())
    cut = flat if len(flat) <= _CHARACTERS else flat[:_CHARACTERS].rsplit(" ", 1)[0] + " ..."
    return cut.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "\\`").replace("*", "\\*")


def _merged(manifest: Mapping[str, Any]) -> list[str]:
    groups = manifest["merged_concepts"]
    if not groups["groups"]:
        return ["## Concepts that share media", "", "No two concepts share a picture, sound or clip."]
    lines = [
        "## Concepts that share media",
        "",
        f"{groups['groups']:,} groups of concepts share a byte-identical picture, sound or clip, so each lies on one "
        "side of the split; of pictures that are the same the concept is one as well. The largest groups:",
        "",
    ]
    return lines + [f"- {_cell(', '.join(names[:8]))}" for names in groups["largest"][:8]]


def _licence_section(tier: str, manifest: Mapping[str, Any]) -> str:
    text = Path(__file__).with_name("licences.md").read_text(encoding="utf-8").rstrip()
    families = {family: _of_family(manifest, family) for family in _FAMILIES}
    evaluation = [
        name if source["role"] == "zero_shot" else f"{', '.join(source['zero_shot_tasks'])} of {name}"
        for name, source in manifest["sources"].items()
        if source["zero_shot_tasks"]
    ]
    values = {"tier": tier, **{family: ", ".join(names) or "none" for family, names in families.items()}}
    strict = {name for family, names in families.items() if family != "permissive" for name in names}
    values["permissive_names"] = ",".join(name for name in families["permissive"] if name not in strict)
    values["evaluation"] = "; ".join(evaluation) or "none in this tier"
    for key, value in values.items():
        text = text.replace("{" + key + "}", value)
    return text


def _of_family(manifest: Mapping[str, Any], family: str) -> list[str]:
    """Sources whose licence names this family; one under several licences is in several families."""
    sources = manifest["sources"].items()
    return [name for name, source in sources if any(mark in source["licence"] for mark in _FAMILIES[family])]
