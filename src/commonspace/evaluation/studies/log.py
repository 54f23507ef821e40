"""A family as a run of W&B, beside its cells: what they say together."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

from PIL import Image

from commonspace.evaluation.plots import png
from commonspace.evaluation.studies.compare import Level, Study
from commonspace.evaluation.studies.plot import draw
from commonspace.tracking.trained_run import opened

_COLUMNS = ("level", "cells", "MRR@10 on dev", "difference", "low", "high", "p (Holm)", "detectable")


def log_study(study: Study, said: str, folder: Path, mode: str, project: str) -> None:
    """Log levels, plot and what they say, in the group of the family's cells; the same study is the same run.

    folder  where W&B keeps the log, in a folder of the family's name
    mode    offline | online
    """
    import wandb

    digest = hashlib.sha256(json.dumps(study.to_json(), sort_keys=True).encode()).hexdigest()[:8]
    run = opened(
        folder / study.family,
        f"study-{study.family}-{digest}",
        mode=mode,
        project=project,
        config={"family": study.family, "about": study.about, "reference": study.reference, "began": study.began},
        name=study.family,
        group=f"ablation-{study.family}",
        job_type="study",
        tags=["ablation", "study"],
    )
    rows = [[level.label, len(level.cells), level.mean, *_told(level)] for level in study.levels]
    picture = Image.open(io.BytesIO(png(draw(study))))
    run.log({"study/levels": wandb.Table(columns=list(_COLUMNS), data=rows), "study/plot": wandb.Image(picture)})
    run.summary["study/reading"] = said
    run.finish()


def _told(level: Level) -> list[float | None]:
    gap = level.difference
    return [None] * 5 if gap is None else [gap.value, gap.low, gap.high, level.p_holm, gap.detectable]
