"""Tables of a teacher: looked up by content, and refused where they are not what they should be."""

import pytest
import torch
from safetensors.torch import save_file

from commonspace.data.teacher import TeacherTables
from commonspace.errors import DataError


def write(folder, ids=(-3, 2, 9), rows=3):
    vectors = torch.arange(2.0 * rows).view(rows, 2).half()
    save_file({"ids": torch.tensor(ids), "vectors": vectors}, folder / "image_caption.safetensors")
    return TeacherTables(folder)


def test_vectors_come_in_the_order_of_the_ids(tmp_path):
    teacher = write(tmp_path)
    found = teacher.vectors("image_caption", torch.tensor([9, -3, 9]), ["a", "b", "c"])
    assert teacher.tasks == ["image_caption"] and found.tolist() == [[4, 5], [0, 1], [4, 5]]


def test_scores_are_inner_products_of_the_table(tmp_path):
    scores = write(tmp_path).scores("image_caption", torch.tensor([9, -3]), torch.tensor([2, 9]), ["a", "b"])
    assert scores.tolist() == [[4 * 2 + 5 * 3, 4 * 4 + 5 * 5], [3, 5]]


@pytest.mark.parametrize("unknown", [-4, 3, 10])
def test_an_unknown_content_is_named_by_its_sample(tmp_path, unknown):
    with pytest.raises(DataError, match="image_caption.safetensors: does not know a content of tar:second"):
        write(tmp_path).vectors("image_caption", torch.tensor([2, unknown]), ["tar:first", "tar:second"])


def test_a_folder_without_tables_and_a_damaged_table_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"holds no <task>\.safetensors"):
        TeacherTables(tmp_path)
    with pytest.raises(DataError, match="ids must rise"):
        write(tmp_path, ids=(2, -3, 9)).vectors("image_caption", torch.tensor([2]), ["a"])
    (tmp_path / "image_caption.safetensors").write_bytes(b"no tensors")
    with pytest.raises(DataError, match="is no table"):
        TeacherTables(tmp_path).vectors("image_caption", torch.tensor([2]), ["a"])
