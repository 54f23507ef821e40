"""Coefficients of a soup that are learned: as many numbers as ingredients, or as many for each layer.

The gradient of a share is the inner product of the loss's gradient at the soup with its ingredient. So a step holds the
soup and its gradient, two models, and reads the ingredients one tensor at a time, however many there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from commonspace.models.blend import Blend, layer_of


class LearnedShares(nn.Module):
    """Softmax over the ingredients, one for all tensors or one a layer; equal at the start.

    Args:
        names: tensors that differ between the ingredients.
        count: of ingredients.
        by_layer: each layer (`layer_of`) has its own shares.
    """

    def __init__(self, names: Sequence[str], count: int, by_layer: bool) -> None:
        super().__init__()
        layers = list(dict.fromkeys(layer_of(name) for name in names)) if by_layer else [""]
        self.row = {layer: number for number, layer in enumerate(layers)}
        self.by_layer = by_layer
        self.logits_GN = nn.Parameter(torch.zeros(len(layers), count))

    def blend(self) -> Blend:
        """The soup at the shares as they are."""
        shares_GN = self.logits_GN.detach().softmax(-1).tolist()
        members = tuple(range(self.logits_GN.shape[1]))
        if not self.by_layer:
            return Blend(members, tuple(shares_GN[0]))
        return Blend(members, by_layer={layer: tuple(shares_GN[row]) for layer, row in self.row.items()})

    def backward(self, gradients: Mapping[str, Tensor], ingredients: Sequence[Mapping[str, Tensor]]) -> None:
        """Add the loss's gradient to the logits; `gradients` are those with respect to the soup's tensors, by name.

        Taken about the first ingredient: a constant added to all shares' gradients does not move a softmax.
        """
        towards_GN = torch.zeros_like(self.logits_GN, dtype=torch.float64)
        for name, gradient in gradients.items():
            row = self.row[layer_of(name) if self.by_layer else ""]
            first, wide = ingredients[0][name].double(), gradient.detach().double().cpu()
            for number, ingredient in enumerate(ingredients[1:], start=1):
                towards_GN[row, number] += ((ingredient[name].double() - first) * wide).sum()
        self.logits_GN.softmax(-1).backward(towards_GN.to(self.logits_GN.dtype))
