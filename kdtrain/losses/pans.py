"""Position-aware n-gram similarity with the reference, in expectation under the student."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from kdtrain.losses import LOSSES, SequenceLoss


@LOSSES.register("pans")
class Pans(SequenceLoss):
    r"""One minus the n-gram similarity of what the student says with the reference.

    .. math:: \sum_{\text{rows}} 1 - \frac{1}{N} \sum_{n=1}^{N} S_n, \qquad
              S_n = \frac{1}{L - n + 1} \sum_i \max_j \; e^{-\lambda |i - j|} \prod_{m<n} q_{j+m}(y_{i+m}),
              \qquad N = \min(n_{\max}, L)

    for a row of L labels y, and student probabilities :math:`q_j` at position j, teacher-forced and at T = 1: each
    n-gram of the reference finds the place where the student would write it most probably, positions taken as
    independent, and counts less the further away that is. In [0, 1] per row; 0 for a student that is certain of
    the reference. Needs no signal.

    Parameters
    ----------
    max_n
        Tokens of the longest n-grams, :math:`n_{\max}`.
    decay
        How fast an n-gram counts less with its distance, :math:`\lambda`.
    """

    name: ClassVar[str] = "pans"
    options: ClassVar[tuple[str, ...]] = ("max_n", "decay")

    def __init__(self, max_n: int = 4, decay: float = 0.1) -> None:
        self.max_n, self.decay = max_n, decay

    def __call__(self, log_q_BNN: Tensor, lengths_B: Sequence[int]) -> Tensor:
        """See `SequenceLoss`."""
        length_B = torch.tensor(lengths_B, device=log_q_BNN.device)
        place_N = torch.arange(log_q_BNN.shape[1], device=log_q_BNN.device)
        distance_NN = self.decay * (place_N[:, None] - place_N).abs()
        gram_BNN = log_q_BNN
        similar_B = log_q_BNN.new_zeros(len(lengths_B))
        for n in range(1, min(self.max_n, log_q_BNN.shape[1]) + 1):
            if n > 1:  # one label more: the diagonal neighbour of an n-gram of one less
                gram_BNN = gram_BNN[:, :-1, :-1] + log_q_BNN[:, n - 1 :, n - 1 :]
            count_B = (length_B - n + 1).clamp(min=0)
            there_BN = place_N[: gram_BNN.shape[1]] < count_B[:, None]
            found_BNN = (gram_BNN - distance_NN[: gram_BNN.shape[1], : gram_BNN.shape[1]]).exp()
            best_BN = found_BNN.masked_fill(~there_BN[:, :, None], 0).amax(1)
            similar_B = similar_B + (best_BN * there_BN).sum(-1) / count_B.clamp(min=1)
        return 1 - similar_B / length_B.clamp(1, self.max_n)
