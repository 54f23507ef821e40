"""Connectors: rows of a modality's encoder to tokens of the backbone's width."""

from __future__ import annotations

import torch
from torch import nn

from commonspace.errors import ConfigError
from commonspace.models.dropout import Dropout


class Connector(nn.Module):
    """LayerNorm, merge `merge` neighbouring rows, a linear map beside a two-layer MLP, learned positions, LayerNorm.

    rows_NRC -> tokens_NTD with T = ceil(R / merge). An odd last group is padded by repeating its last row. `dropout.p`
    is 0 unless a stage sets it. The output LayerNorm starts at the root mean square of the backbone's own word
    embeddings, so that media tokens enter the pretrained transformer at a size it knows.
    """

    def __init__(
        self, rows_width: int, width: int, *, positions: int, merge: int = 1, hidden: int | None = None
    ) -> None:
        super().__init__()
        if merge < 1:
            raise ConfigError(f"connector.merge is {merge}; it must be at least 1")
        self.merge = merge
        hidden = hidden or 2 * width
        self.norm_in = nn.LayerNorm(rows_width)
        self.dropout = Dropout(0.0)
        self.linear = nn.Linear(rows_width * merge, width, bias=False)
        self.expand = nn.Linear(rows_width * merge, hidden)
        self.contract = nn.Linear(hidden, width)
        self.positions = nn.Parameter(torch.zeros(positions, width))
        self.norm_out = nn.LayerNorm(width)

    def match_scale(self, word_embeddings: torch.Tensor, scale: float = 1.0) -> None:
        """Start the output at the mean and root mean square of `word_embeddings` [V, D], taken `scale` times."""
        with torch.no_grad():
            mean_D = word_embeddings.mean(0)
            self.norm_out.weight.fill_((word_embeddings - mean_D).square().mean().sqrt().item() * scale)
            self.norm_out.bias.copy_(mean_D * scale)

    def forward(self, rows_NRC: torch.Tensor, grid: tuple[int, int] | None = None) -> torch.Tensor:
        """Encoder rows [N, R, C], of any float type, to tokens [N, T, D], in a `grid` of rows and columns if told."""
        tokens_NTD = self._map(rows_NRC)
        return self.norm_out(tokens_NTD + self._positions(tokens_NTD.shape[1], grid))

    def summary(self, rows_NRC: torch.Tensor) -> torch.Tensor:
        """Encoder rows [N, R, C] to one vector [N, D]: the token of their mean, which stands nowhere."""
        return self.norm_out(self._map(rows_NRC.float().mean(dim=1, keepdim=True)))[:, 0]

    def _map(self, rows_NRC: torch.Tensor) -> torch.Tensor:
        rows_NRC = self.norm_in(rows_NRC.to(self.expand.weight.dtype))
        if self.merge > 1:
            if shortfall := -rows_NRC.shape[1] % self.merge:
                last_NrC = rows_NRC[:, -1:].expand(-1, shortfall, -1)
                rows_NRC = torch.cat([rows_NRC, last_NrC], dim=1)
            rows_NRC = rows_NRC.unflatten(1, (-1, self.merge)).flatten(2)
        rows_NRC = self.dropout(rows_NRC)
        hidden_NTH = self.dropout(nn.functional.gelu(self.expand(rows_NRC)))
        return self.linear(rows_NRC) + self.contract(hidden_NTH)

    def _positions(self, count: int, grid: tuple[int, int] | None = None) -> torch.Tensor:
        """The learned table [P, D] stretched or thinned to `count` tokens: a 2x2 frame shares a 3x3 image's table.

        A table of a square number is a square; a `grid` of another aspect takes its places from the same square.
        """
        side, rows = round(count**0.5), round(len(self.positions) ** 0.5)
        if grid is None and side**2 == count:
            grid = (side, side)
        if count == len(self.positions) and grid in (None, (rows, rows)):
            return self.positions
        if grid is not None and rows**2 == len(self.positions):
            table = self.positions.T.reshape(1, -1, rows, rows)
            return nn.functional.adaptive_avg_pool2d(table, grid).flatten(2)[0].T
        return (
            self.positions[:count]
            if count < len(self.positions)
            else nn.functional.interpolate(self.positions.T[None], size=count, mode="linear", align_corners=False)[0].T
        )
