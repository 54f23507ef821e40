"""docs/public_sets.md, written of the sets' YAML files. `python -m data_prep.public.page` writes it anew."""

from __future__ import annotations

from pathlib import Path

from data_prep.public.spec import PublicSet, all_sets

_HEAD = """# Public sets

<!-- written of data_prep/public/sets/*.yaml by `python -m data_prep.public.page`; do not edit -->

Sets for users with a network or a disk. None was downloaded for this project: no publisher was in reach, and no figure
here comes from one. Their layouts are tested on small files made after the published ones; *layout* says after what.
Sizes and licences are as papers and cards of the sets give them, and were not checked here: read the publisher's own
before you download, and again before you pass weights on.

```bash
commonspace data build public coco folder=FOLDER
commonspace data build public nli
commonspace data mix tiers=[mini,coco,nli] output=mix
commonspace train experiment=public/finetune data.tier=mix \\
  data.tasks.recipe_image.rate=0 data.tasks.page.rate=0 data.tasks.question.rate=0 data.tasks.fact.rate=0
```

The first reads the files as they lie in FOLDER and writes `data/coco`; without `folder=` the files come from the hub,
at a pinned commit, where a set is there as published. A set that is built is a tier of one task: `data mix` joins
several, [without repetitions and without what evaluations ask](data_quality.md). `public/finetune` draws eight tasks:
one that the mixed tier has no rows of is set to rate 0, as above, and tasks that it does not name are not drawn. A
build that was interrupted goes on where it was; one that ended is made anew where a file has changed, be it one picture
that was missing. Rows that cannot be used (no media file, a picture, sound or clip that is cut short or is none, an
empty caption, a picture over 40 megapixels) are left out and counted by reason in `data/SET/manifest.json`; a table or
tar that is cut short, changed or not as published ends the build, and the tier that was there before stays. So does a
download of which more than 5% of the media files are missing or empty: `missing=0.3` lets 30% be, as of videos that
have left the web. The same share may the pairs have, in any one file of judgements, whose query or passage is not in
the tables; of files that are numbered, as `train-00003-of-00082`, all must be there. Of what publishers give, this
checks the layout, of sets on the hub the commit with the names and sizes of its files, and of DOCCI's file the size. A
download from the hub that is whole is used without a network; one that was interrupted is refused there.

Published splits are kept: their training rows go to train, their validation rows to dev, their test rows to held-out.
What is *in the domain of an evaluation* (VATEX, MSR-VTT, YouCook2) is a task of its own that no default mixture takes,
as in the paper; `commonspace train experiment=public/in_domain_video` is the experiment of its table 6. A [recipe of
others](reproduce.md), `experiment=reproduce/omniembed`, trains on MSR-VTT too.

Another set is another YAML file: `data_prep/public/spec.py` has its keys; `contents.py`, `annotations.py`, `tars.py`
and `pairs.py` beside it have what the readers take.
"""


def page() -> str:
    """The whole page."""
    sets = sorted(all_sets().values(), key=lambda one: (one.task, one.name))
    lines = ["| set | task | size | licence | tables of the paper | command |", "| --- | --- | --- | --- | --- | --- |"]
    lines += [_row(one) for one in sets]
    sections = [_section(one) for one in sorted(sets, key=lambda one: one.name)]
    return "\n".join([_HEAD, *lines, "", *sections]).rstrip() + "\n"


def _row(one: PublicSet) -> str:
    where = "" if one.hub else " folder=FOLDER"
    command = f"`commonspace data build public {one.name}{where}`"
    task = one.task if one.default else f"{one.task} (in domain)"
    return f"| [{one.name}](#{one.name}) | {task} | {one.size} | {one.licence} | {', '.join(one.serves)} | {command} |"


def _section(one: PublicSet) -> str:
    splits = ", ".join(f"{published} -> {_side(side)}" for published, side in one.splits.items())
    lines = [f"## {one.name}", "", f"{one.title}, <{one.home}>. Splits: {splits}.", "", "Download:", ""]
    lines += [f"- {item}" for item in one.download]
    lines += [f"- or nothing: `{hub.repo}` at `{hub.revision[:12]}` on the hub" for hub in one.hub]
    lines += ["", f"Reader: {one.reader}. Layout: {one.layout}.", ""]
    return "\n".join(lines)


def _side(side: str | None) -> str:
    return {None: "left out", "hash": "by concept"}.get(side, side or "")


if __name__ == "__main__":
    Path("docs/public_sets.md").write_text(page(), encoding="utf-8")
