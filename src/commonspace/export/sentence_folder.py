"""A model folder made one that sentence-transformers loads: a module of ours, the code it needs, and the prompts.

modules.json                       one module, `commonspace_module.CommonspaceModule`
commonspace_module.py              that module; sentence-transformers runs it where trust_remote_code=True
commonspace_code, requirements.txt what it needs where no commonspace is installed
config_sentence_transformers.json  prompts, cosine
"""

from __future__ import annotations

import importlib.metadata
import shutil
from pathlib import Path

from commonspace.export.code import write_code
from commonspace.models.embedder import Embedder
from commonspace.models.folder import write_json

MODULE = "commonspace_module"
SEARCH = "search result"  # the task of encode_query and encode_document


def write_sentence_folder(embedder: Embedder, folder: Path) -> None:
    """Add to a model folder what sentence-transformers looks for."""
    shutil.copyfile(Path(__file__).with_name(f"{MODULE}.py"), folder / f"{MODULE}.py")
    write_code(folder)
    write_json(folder / "modules.json", [{"idx": 0, "name": "0", "path": "", "type": f"{MODULE}.CommonspaceModule"}])
    write_json(folder / "config_sentence_transformers.json", settings(prompts_of(embedder)))


def settings(prompts: dict[str, str]) -> dict[str, object]:
    """config_sentence_transformers.json: the versions this was written with, the prompts, and how vectors compare."""
    packages = {"sentence_transformers": "sentence-transformers", "transformers": "transformers", "pytorch": "torch"}
    return {
        "model_type": "SentenceTransformer",
        "__version__": {key: importlib.metadata.version(name) for key, name in packages.items()},
        "requirements": {"sentence-transformers": ">=6"},
        "prompts": prompts,
        "default_prompt_name": None,
        "similarity_fn_name": "cosine",
    }


def prompts_of(embedder: Embedder) -> dict[str, str]:
    """ "query" and "document" of a search, and each task by its name: what stands before its query."""
    prefixes = embedder.processor.preprocessing.prefixes
    search = prefixes.get(SEARCH, {"query": "", "document": ""})
    return {**search, **{task: sides["query"] for task, sides in prefixes.items()}}
