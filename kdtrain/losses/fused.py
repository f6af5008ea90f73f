r"""The distillation head: hidden states in, loss and gradients out, a few tokens at a time.

No array is [tokens, vocabulary]. For a *chunk* of tokens logits :math:`z = h W^\top + b` are made, turned into the
gradient g of the weighted total in place, and multiplied back at once: :math:`\partial h = g W`,
:math:`\partial W \mathrel{+}= g^\top h`. Between the two products a *tile* of a few tokens is looked at, small
enough for a processor's cache. So the backward pass only scales what the forward pass has found, and what is kept
for it is as large as the hidden states and the weight.

With coefficients c, and T the temperature of divergences, the gradient of a token is

.. math:: g = \sum_a c_a \, w \, f_a'(\log q_1(y)) \, (e_y - q_1) + \sum_d c_d \, T \, \nabla D_d(p_T, q_T)

over label losses f, w the token's weight, and divergences D; a `SequenceLoss` adds terms like the first ones, for all
labels of the row.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from kdstore.codecs import Codec, Signal
from kdstore.errors import CapabilityError
from kdtrain.losses import Component, Divergence, LabelLoss, SequenceLoss
from kdtrain.losses._tile import Slopes, Tile

# Smaller chunks traverse the gradient of the weight more often, larger ones take memory; see docs/decisions/0012.
CHUNK: Final = 1 << 23  # logits: 256 tokens of CodeT5's vocabulary
TILE: Final = 1 << 20  # on a CPU; a GPU takes a chunk whole, since every operation costs a launch there


@dataclass(frozen=True)
class Targets:
    """What the student's tokens are held against.

    ``labels_L`` int64 [L]; ``lengths_B``, the label tokens of each row, for sequence losses; ``weights_L`` float [L],
    which multiply the terms of label losses; and for divergences ``codec``, its arrays ``signal`` for the L tokens,
    and ``temperature``.
    """

    labels_L: Tensor
    lengths_B: Sequence[int] = ()
    weights_L: Tensor | None = None
    codec: Codec[Any] | None = None
    signal: Mapping[str, Tensor] = field(default_factory=dict)
    temperature: float = 1.0


@dataclass(frozen=True)
class LossOut:
    """The weighted total, differentiable, and the sum of each component, without its weight and detached."""

    total: Tensor
    components: dict[str, Tensor]


class DistillationHead(nn.Linear):
    """A model's output layer, which also knows its loss.

    It takes the layer's place in the model, weights and their names included. Given hidden states alone it gives
    logits; given targets too, the loss, and logits never exist together. Both are calls of one module, so that what
    gathers sharded weights before a module runs (FSDP) does so for both.

    Parameters
    ----------
    linear
        The output layer, tied to the input embedding or not. Where its weight needs no gradient, none is computed.
    components
        Components by name; those that do not look at tokens are left to others.
    chunk, tile
        Tokens whose logits, and whose distributions, are in memory at a time; by default as many as 2^23 and 2^20
        logits make. A row is never cut where there is a sequence loss.
    """

    def __init__(
        self,
        linear: nn.Linear,
        components: Mapping[str, Component],
        chunk: int | None = None,
        tile: int | None = None,
    ) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, "meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.chunk = chunk or max(1, CHUNK // linear.out_features)
        self.tile = tile or max(1, TILE // linear.out_features)
        self.labels = {name: one for name, one in components.items() if isinstance(one, LabelLoss)}
        self.divergences = {name: one for name, one in components.items() if isinstance(one, Divergence)}
        self.sequences = {name: one for name, one in components.items() if isinstance(one, SequenceLoss)}

    def forward(
        self, hidden_LD: Tensor, targets: Targets | None = None, coefficients: Mapping[str, float] | None = None
    ) -> Any:
        """Logits; or a `LossOut`: sums over tokens and rows, and their total, weighted by ``coefficients``.

        Components without a coefficient, or with 0, are left out. Under autocast products are in its number format
        and all else in float32.

        Raises
        ------
        CapabilityError
            There is no codec for a divergence, or it cannot serve the temperature or the component.
        """
        if targets is None:
            return super().forward(hidden_LD)
        wanted = {name: value for name, value in (coefficients or {}).items() if value}
        if targets.codec is None and len(hidden_LD) and any(name in wanted for name in self.divergences):
            raise CapabilityError("Expected a signal for losses that compare with the teacher. Got none.")
        run = _Pass(self, targets, wanted)
        total = cast(Tensor, _Fused.apply(hidden_LD, self.weight, self.bias, run))  # type: ignore[no-untyped-call]
        return LossOut(total, run.sums)


class _Fused(torch.autograd.Function):
    """Finds gradients together with the value."""

    @staticmethod
    def forward(ctx: Any, hidden_LD: Tensor, weight_VD: Tensor, bias_V: Tensor | None, run: "_Pass") -> Tensor:
        wanted = [run.differentiable and needed for needed in ctx.needs_input_grad[:3]]
        total, ctx.gradients = run(hidden_LD, weight_VD, bias_V, wanted)
        ctx.dtypes = [None if x is None else x.dtype for x in (hidden_LD, weight_VD, bias_V)]
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            raise RuntimeError("Expected one backward pass through the distillation head. Got a second one.")
        dtypes = ctx.dtypes
        # Scaled in the exact format: what a loss scaler keeps from vanishing must not be rounded before it comes.
        return (
            *(None if g is None else g.mul_(scale).to(dtype) for g, dtype in zip(gradients, dtypes, strict=True)),
            None,
        )


class _Pass:
    """One pass over the tokens of a batch; afterwards ``sums`` holds the value of each component."""

    def __init__(self, head: DistillationHead, targets: Targets, coefficients: Mapping[str, float]) -> None:
        self.targets, self.coefficients = targets, coefficients
        self.labels = {name: one for name, one in head.labels.items() if name in coefficients}
        self.divergences = {name: one for name, one in head.divergences.items() if name in coefficients}
        self.sequences = {name: one for name, one in head.sequences.items() if name in coefficients}
        self.chunk, self.tile = head.chunk, head.tile
        self.differentiable = torch.is_grad_enabled()
        self.sums: dict[str, Tensor] = {}
        self.lengths = [length for length in targets.lengths_B if length]
        # Numbers near 1 in g, so that half precision keeps them; products are scaled back.
        own = {name: coefficients[name] for name in (*self.labels, *self.divergences, *self.sequences)}
        self._largest = max(map(abs, own.values()), default=1.0)
        self._relative = {name: value / self._largest for name, value in own.items()}

    def __call__(
        self, hidden_LD: Tensor, weight_VD: Tensor, bias_V: Tensor | None, wanted: Sequence[bool]
    ) -> tuple[Tensor, list[Tensor | None]]:
        """The total, and its gradients by those inputs whose gradient is ``wanted``."""
        device, inputs = hidden_LD.device, (hidden_LD, weight_VD, bias_V)
        low = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else hidden_LD.dtype
        exact = torch.float64 if low == torch.float64 else torch.float32
        self.sums = {
            name: torch.zeros((), dtype=exact, device=device)
            for name in (*self.labels, *self.divergences, *self.sequences)
        }
        found = [
            torch.zeros_like(one, dtype=exact) if want and one is not None else None
            for one, want in zip(inputs, wanted, strict=True)
        ]
        with torch.autocast(device.type, enabled=False):
            if self.sums:
                self._products(hidden_LD.to(low), weight_VD.to(low), bias_V, exact, *found)
        total = torch.zeros((), dtype=exact, device=device)
        for name, value in self.sums.items():
            total += self.coefficients[name] * value
        return total, found

    def _products(
        self,
        hidden_LD: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        exact: torch.dtype,
        by_hidden_LD: Tensor | None,
        by_weight_VD: Tensor | None,
        by_bias_V: Tensor | None,
    ) -> None:
        """Go through the chunks, and add to the gradients."""
        device, vocab_size = hidden_LD.device, len(weight_VD)
        sizes = self._sizes(len(hidden_LD))
        most = max(sizes, default=0)
        tile = min(most, self.tile if device.type == "cpu" else most)
        like = torch.empty(tile, vocab_size, dtype=exact, device=device)
        buffers = Tile(self.labels, self.divergences, self._relative, self.targets.temperature, self.sums, like)
        logits_CV = torch.empty(most, vocab_size, dtype=hidden_LD.dtype, device=device)
        signals = self._signals([min(tile, size - first) for size in sizes for first in range(0, size, tile)])
        start, row = 0, 0
        for size in sizes:
            part = slice(start, start + size)
            hidden_CD = hidden_LD[part]
            z_CV = torch.mm(hidden_CD, weight_VD.T, out=logits_CV[:size]).to(exact)
            if bias_V is not None:
                z_CV += bias_V
            row, slopes = self._slopes(z_CV, part, row)
            self._to_gradient(buffers, tile, z_CV, part, signals, slopes)
            if by_bias_V is not None:
                by_bias_V.add_(z_CV.sum(0), alpha=self._largest)
            g_CV = z_CV.to(hidden_LD.dtype)
            if by_hidden_LD is not None:
                _add_product(by_hidden_LD[part], g_CV, weight_VD, self._largest)
            if by_weight_VD is not None:
                _add_product(by_weight_VD, g_CV.T, hidden_CD, self._largest)
            start += size

    def _to_gradient(
        self,
        buffers: Tile,
        tile: int,
        z_CV: Tensor,
        part: slice,
        signals: Iterator[Signal | None],
        slopes: Slopes | None,
    ) -> None:
        labels_C = self.targets.labels_L[part]
        weights_C = None if self.targets.weights_L is None else self.targets.weights_L[part]
        for first in range(0, len(z_CV), tile):
            rows = slice(first, first + tile)
            buffers.to_gradient(
                z_CV[rows],
                labels_C[rows],
                None if weights_C is None else weights_C[rows],
                next(signals),
                None if slopes is None else slopes.part(rows),
            )

    def _sizes(self, tokens: int) -> list[int]:
        """Tokens of each chunk; whole rows where there is a sequence loss."""
        if not self.sequences:
            return [min(self.chunk, tokens - start) for start in range(0, tokens, self.chunk)]
        sizes = [0] if self.lengths else []
        for length in self.lengths:
            if sizes[-1] and sizes[-1] + length > self.chunk:
                sizes.append(0)
            sizes[-1] += length
        return sizes

    def _signals(self, sizes: Sequence[int]) -> Iterator[Signal | None]:
        """The teacher's signal of each tile, decoded when its turn comes."""
        codec = self.targets.codec
        if not self.divergences or codec is None:
            yield from [None] * len(sizes)
            return
        for arrays in codec.pieces(self.targets.signal, sizes):
            yield codec.decode(arrays, self.targets.temperature)

    def _slopes(self, z_CV: Tensor, part: slice, row: int) -> tuple[int, Slopes | None]:
        """The row after the last one of a chunk, and what sequence losses ask of the chunk's tokens."""
        if not self.sequences:
            return row, None
        lengths: list[int] = []
        size = 0
        while size < len(z_CV):
            lengths.append(self.lengths[row + len(lengths)])
            size += lengths[-1]
        there_BN = torch.arange(max(lengths), device=z_CV.device) < torch.tensor(lengths, device=z_CV.device)[:, None]
        ids_BN = there_BN.new_zeros(there_BN.shape, dtype=torch.int64)
        ids_BN[there_BN] = self.targets.labels_L[part]
        # Every token looks at all labels of its row: [C, N].
        ids_CN = ids_BN.repeat_interleave(torch.tensor(lengths, device=z_CV.device), 0, output_size=size)
        with torch.enable_grad():
            log_q_CN = (z_CV.gather(-1, ids_CN) - z_CV.logsumexp(-1, keepdim=True)).requires_grad_()
            log_q_BNN = log_q_CN.new_zeros(*there_BN.shape, there_BN.shape[1]).masked_scatter(
                there_BN[:, :, None], log_q_CN
            )
            total = log_q_CN.new_zeros(())
            for name, loss in self.sequences.items():
                value = loss(log_q_BNN, lengths).sum()
                self.sums[name].add_(value.detach())
                total = total + self._relative[name] * value
            (slopes_CN,) = torch.autograd.grad(total, log_q_CN)
        return row + len(lengths), Slopes(ids_CN, slopes_CN)


def _add_product(sum_XD: Tensor, a_XY: Tensor, b_YD: Tensor, scale: float) -> None:
    if sum_XD.dtype == a_XY.dtype:
        sum_XD.addmm_(a_XY, b_YD, alpha=scale)
    else:
        sum_XD.add_(a_XY @ b_YD, alpha=scale)
