"""Turn the logits of a few tokens into the gradient of a weighted total, in place."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from kdstore.codecs import DenseSignal, SampledSignal, Signal, SparseSignal
from kdstore.fidelity.divergence import LOG_ZERO
from kdtrain.losses import Divergence, LabelLoss


@dataclass(frozen=True)
class Slopes:
    """Derivatives by log q_1 of some ids at each token, from a loss that looks at more than its own label.

    ``ids_LN`` int64 and ``values_LN`` float, both [L, N].
    """

    ids_LN: Tensor
    values_LN: Tensor

    def part(self, rows: slice) -> "Slopes":
        """Those of some tokens."""
        return Slopes(self.ids_LN[rows], self.values_LN[rows])


class Tile:
    """The arithmetic between the two products of the distillation head, in buffers that are used again.

    Parameters
    ----------
    labels, divergences
        The components, by name.
    coefficients
        The weight of each.
    temperature
        Of divergences.
    sums
        By name, scalars that values are added to.
    like
        A float tensor [K, V], at least as many tokens as come at a time.
    """

    def __init__(
        self,
        labels: Mapping[str, LabelLoss],
        divergences: Mapping[str, Divergence],
        coefficients: Mapping[str, float],
        temperature: float,
        sums: Mapping[str, Tensor],
        like: Tensor,
    ) -> None:
        self._labels, self._divergences = labels, divergences
        self._coefficients, self._temperature, self._sums = coefficients, temperature, sums
        self._buffers = [torch.empty_like(like) for _ in range(4)]

    def to_gradient(
        self, z_LV: Tensor, labels_L: Tensor, weights_L: Tensor | None, signal: Signal | None, slopes: Slopes | None
    ) -> None:
        """Replace logits at T = 1 by the total's gradient, and add the values of all components to their sums."""
        g_LV, *free = (buffer[: len(z_LV)] for buffer in self._buffers)
        if self._labels or slopes:
            self._add_labels(z_LV, labels_L, weights_L, slopes, g_LV)
        else:
            g_LV.zero_()
        if self._divergences:
            z_LV.div_(self._temperature)
            if isinstance(signal, DenseSignal):
                self._add_dense(z_LV, signal, g_LV, *free)
            elif isinstance(signal, SparseSignal):
                self._add_sparse(z_LV, signal, g_LV, free[0])
            else:
                assert isinstance(signal, SampledSignal)  # there are no more forms
                self._add_sampled(z_LV, signal, g_LV, *free[:2])
        z_LV.copy_(g_LV)

    def _add_labels(
        self, z_LV: Tensor, labels_L: Tensor, weights_L: Tensor | None, slopes: Slopes | None, g_LV: Tensor
    ) -> None:
        labels_L1 = labels_L[:, None]
        torch.log_softmax(z_LV, -1, out=g_LV)
        log_q_L = g_LV.gather(-1, labels_L1)[:, 0]
        slope_L = torch.zeros_like(log_q_L)
        for name, loss in self._labels.items():
            value_L, by_log_q_L = loss(log_q_L)
            if weights_L is not None:
                value_L, by_log_q_L = value_L * weights_L, by_log_q_L * weights_L
            self._sums[name].add_(value_L.sum())
            slope_L += self._coefficients[name] * by_log_q_L
        # The gradient of log q(y) is e_y - q.
        all_L = slope_L if slopes is None else slope_L + slopes.values_LN.sum(-1)
        g_LV.exp_().mul_(-all_L[:, None])
        g_LV.scatter_add_(-1, labels_L1, slope_L[:, None])
        if slopes is not None:
            g_LV.scatter_add_(-1, slopes.ids_LN, slopes.values_LN)

    def _add_dense(
        self, z_LV: Tensor, signal: DenseSignal, g_LV: Tensor, p_LV: Tensor, q_LV: Tensor, out: Tensor
    ) -> None:
        torch.log_softmax(z_LV, -1, out=q_LV)
        torch.div(signal.logits_LV, self._temperature, out=z_LV)
        # Ids never emitted: a teacher's log-probability of minus infinity times 0 is not 0.
        torch.log_softmax(z_LV, -1, out=p_LV).clamp_(min=LOG_ZERO)
        torch.sub(p_LV, q_LV, out=z_LV)
        p_LV.exp_()
        q_LV.exp_()
        for name, divergence in self._divergences.items():
            self._count(name, divergence(p_LV, q_LV, z_LV, out))
            g_LV.add_(out, alpha=self._scale(name))

    def _add_sparse(self, z_LV: Tensor, signal: SparseSignal, g_LV: Tensor, rest_LV: Tensor) -> None:
        """Candidates are a category each, all other ids one together, whose logit is the logsumexp of theirs."""
        ids_LK, head_LK = signal.ids_LK, z_LV.gather(-1, signal.ids_LK)
        log_p_LC = signal.log_probs_LK.to(z_LV.dtype)
        filling_LK = torch.isneginf(log_p_LC)  # ids that only fill a list up are no categories
        tailed = ids_LK.shape[1] < z_LV.shape[1]
        if tailed:
            z_LV.scatter_(-1, ids_LK, head_LK.masked_fill(~filling_LK, -torch.inf))
            torch.softmax(z_LV, -1, out=rest_LV)
            head_LK = torch.cat([head_LK.masked_fill(filling_LK, -torch.inf), z_LV.logsumexp(-1, keepdim=True)], -1)
            log_p_LC = torch.cat([log_p_LC, signal.log_tail_L[:, None].to(z_LV.dtype)], -1)
        log_p_LC = log_p_LC.clamp(min=LOG_ZERO)
        log_q_LC = torch.log_softmax(head_LK, -1).clamp(min=LOG_ZERO)
        p_LC, q_LC, log_ratio_LC = log_p_LC.exp(), log_q_LC.exp(), log_p_LC - log_q_LC
        slope_LC = torch.zeros_like(log_p_LC)
        for name, divergence in self._divergences.items():
            out_LC = torch.empty_like(log_p_LC)
            self._count(name, divergence(p_LC, q_LC, log_ratio_LC, out_LC))
            slope_LC.add_(out_LC, alpha=self._scale(name))
        if tailed:
            g_LV.addcmul_(rest_LV, slope_LC[:, -1:])
            slope_LC = slope_LC[:, :-1].masked_fill(filling_LK, 0)
        g_LV.scatter_add_(-1, ids_LK, slope_LC)

    def _add_sampled(self, z_LV: Tensor, signal: SampledSignal, g_LV: Tensor, log_q_LV: Tensor, out: Tensor) -> None:
        torch.log_softmax(z_LV, -1, out=log_q_LV)
        for name, divergence in self._divergences.items():
            self._count(name, divergence.of_draws(signal, log_q_LV, out))
            g_LV.add_(out, alpha=self._scale(name))

    def _count(self, name: str, value_L: Tensor) -> None:
        self._sums[name].add_(value_L.sum() * self._temperature**2)

    def _scale(self, name: str) -> float:
        """T^2 of the loss, of which the scaling of logits takes one."""
        return self._coefficients[name] * self._temperature
