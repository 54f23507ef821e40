from __future__ import annotations

import pytest

from commonspace.errors import DataError
from data_prep.sources.code_libraries import SOURCE


def test_functions_of_every_library_by_module(write, read, tmp_path):
    body = "\n".join(f"    a{n} = {n}" for n in range(6))
    code = f'def add(x):\n    """Add one and one, and say what it makes."""\n{body}\n'
    folders = {"Django": "django", "scikit_learn": "sklearn"}
    for package in SOURCE.packages:
        write(f"{folders.get(package.name, package.name)}/core.py", code.replace("a0", f"{package.name}_0"))
        write(f"{folders.get(package.name, package.name)}/tests/test_core.py", code)
    write("torch/again.py", code.replace("a0", "torch_0"))
    write("torch/broken.py", "def (")
    records, drops = read(SOURCE, root=tmp_path)
    concepts = {record.concept for record in records["code"]}
    assert len(records["code"]) == len(SOURCE.packages) == len(concepts)
    assert {"django.core", "sklearn.core"} <= concepts
    assert drops == {"repeated function": 1, "module that cannot be parsed": 1}
    with pytest.raises(DataError, match="holds no astropy"):
        read(SOURCE, root=tmp_path / "elsewhere")
