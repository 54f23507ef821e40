"""`commonspace export`: a model folder as others load it, written whole or not at all.

huggingface            the model folder with a card that the hub reads; `Embedder.load` takes it
sentence-transformers  the same, and what `SentenceTransformer(FOLDER, trust_remote_code=True)` needs; of an
                       EmbeddingGemma 2 with its own towers the library's own modules, without code of ours
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from commonspace.errors import ConfigError, DataError
from commonspace.evaluation.run import training_of
from commonspace.export.card import Results, write_card
from commonspace.export.gemma import plain_modules, why_not_plain
from commonspace.export.sentence_folder import prompts_of, write_sentence_folder
from commonspace.models.adapter_folder import check_whole
from commonspace.models.embedder import Embedder
from commonspace.models.folder import check_golden, read_json
from commonspace.models.replacing import replaced_folder

if TYPE_CHECKING:
    from omegaconf import DictConfig

MANIFEST = "export.json"  # says that a folder is ours to replace, and which folders inside belong to it


def main(config: DictConfig) -> None:
    """Write `output` from the model folder `embedder`, in the form `to`.

    Raises WeightsError where the folder does not give its own golden vectors, ConfigError for an adapter alone,
    DataError for results of another run.
    """
    folder, output = Path(config.embedder), Path(config.output)
    check_whole(folder, "embedder")
    if output.resolve() == folder.resolve():
        raise ConfigError(f"output: {output} is the model itself; name another folder")
    embedder = Embedder.load(folder)
    check_golden(embedder, folder)
    results = Results.read(Path(config.results) if config.results else None)
    own = training_of(folder)["run_id"]
    if own is not None and (others := {row.run_id for row in results.rows} - {own}):
        raise DataError(f"results: {results.name} is of run {', '.join(map(str, others))}, the model of {own}")
    told = export(embedder, folder, output, config.to, results)
    print(f"{output}: {told}")


def export(embedder: Embedder, folder: Path, output: Path, to: str, results: Results | None = None) -> str:
    """Write the exported folder beside its place and put it there in one move; returns what was written, for people."""
    results = results or Results()
    card = (folder / "README.md").read_text() if (folder / "README.md").is_file() else ""
    training = read_json(folder / "training.json") if (folder / "training.json").is_file() else None
    with replaced_folder(output, "export") as target:
        kind = None
        if to == "sentence-transformers" and not why_not_plain(embedder):
            kind, told = "plain", "the library's own modules; SentenceTransformer(FOLDER)"
            plain_modules(embedder, target, prompts_of(embedder))
        else:
            embedder.save(target, card, training)
            if (folder / "soup.json").is_file():
                shutil.copyfile(folder / "soup.json", target / "soup.json")
            told = "a model folder; Embedder.load(FOLDER)"
            if to == "sentence-transformers":
                kind, told = "code", "SentenceTransformer(FOLDER, trust_remote_code=True)"
                write_sentence_folder(embedder, target)
        (target / "README.md").write_text(write_card(embedder, output.name, card, results, sentence_transformers=kind))
        _write_manifest(target, to)
    return told


def _write_manifest(folder: Path, to: str) -> None:
    inside = sorted(path.name for path in folder.iterdir() if path.is_dir())
    (folder / MANIFEST).write_text(json.dumps({"export": to, "folders": inside}, indent=1) + "\n")
