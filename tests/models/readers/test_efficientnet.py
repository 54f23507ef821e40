from __future__ import annotations

import io
import pickle

import pytest
import timm
import torch

from commonspace.errors import WeightsError
from commonspace.models.readers import efficientnet


def _checkpoint(state: dict) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """Timm's own tensors under other names, in the same order."""
    tensors = timm.create_model(efficientnet.ARCHITECTURE).state_dict()
    return {f"_{number}.{name.rsplit('.', 1)[1]}": value for number, (name, value) in enumerate(tensors.items())}


def test_tensors_pair_up_by_order(state: dict):
    tensors, config = efficientnet.read(_checkpoint(state), "x.pth")
    model = timm.create_model(config["architecture"])
    model.load_state_dict(tensors)
    assert all(torch.equal(a, b) for a, b in zip(tensors.values(), state.values(), strict=True))
    assert config["pretrained_cfg"]["mean"][0] * 255 == pytest.approx(127)


def test_what_does_not_fit_is_refused(state: dict):
    names = list(state)
    with pytest.raises(WeightsError, match=r"x.pth: has 295 tensors, tf_efficientnet_lite0 has 296"):
        efficientnet.read(_checkpoint({name: state[name] for name in names[1:]}), "x.pth")
    swapped = [names[0], names[2], names[1], *names[3:]]  # a weight and a bias of one shape
    with pytest.raises(WeightsError, match=r"x.pth: _2.bias .* does not fit bn1.weight"):
        efficientnet.read(_checkpoint({name: state[name] for name in swapped}), "x.pth")


class Evil:
    def __reduce__(self):
        return (print, ("code ran",))


@pytest.mark.parametrize("data", [b"", b"no checkpoint", pickle.dumps(Evil()), _checkpoint({"x": Evil()})])
def test_code_is_not_run(data: bytes, capsys: pytest.CaptureFixture):
    with pytest.raises(WeightsError, match="x.pth: is no checkpoint of tensors alone"):
        efficientnet.read(data, "x.pth")
    assert "code ran" not in capsys.readouterr().out
