"""A few directions in logit space that carry what a teacher says: a weighted principal component analysis.

Logits Z [F, V], row-centred, are approximated by mu + C B, so that the weighted error sum_v w_v (z_v - zhat_v)^2 is
least over the sample. The weights w are the mean probabilities of ids, so that ids which matter are near; the
constant direction, which softmax does not see, is left out of B.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from kdstore.codecs._logits import centre
from kdstore.codecs._sample import Sample

_OVERSAMPLED, _ITERATIONS = 16, 2  # of the randomized decomposition


def weighted_basis(sample: Sample, rank: int) -> tuple[Tensor, Tensor]:
    """The ``rank`` best directions.

    Returns
    -------
    ``basis_RV`` float32 [R, V], orthonormal under the weights: sum_v w_v B_iv B_jv = 1 if i = j else 0; and the
    standard deviation of each direction's coefficient over the sample, float32 [R], descending. R is smaller than
    ``rank`` where the sample has fewer directions.
    """
    basis_RV, deviations_R = _randomized(sample, rank) if sample.head is None else _through_head(sample, rank)
    real_R = deviations_R > 1e-4 * deviations_R.amax().clamp(min=1e-6)
    return basis_RV[real_R].float(), deviations_R[real_R].float()


def _through_head(sample: Sample, rank: int) -> tuple[Tensor, Tensor]:
    """By the Gram matrix of the head and the covariance of the hidden states, both [D, D]: exact, and cheap."""
    assert sample.head is not None
    assert sample.hidden_FD is not None
    weights_V = sample.moments.weights_V
    map_DV = centre(sample.head.weight_VD.float().T.masked_fill(sample.never_emitted, -torch.inf))
    map_DV -= (map_DV @ weights_V)[:, None]
    map_DV.masked_fill_(sample.never_emitted, 0)
    gram_DD = ((map_DV * weights_V) @ map_DV.T).double()
    hidden_FD = (sample.hidden_FD - sample.hidden_FD.mean(0)).double()
    covariance_DD = hidden_FD.T @ hidden_FD / max(1, len(hidden_FD))
    # With Z - mu = H M, the directions are those of G^(1/2) C G^(1/2), G the Gram matrix and C the covariance.
    values_D, vectors_DD = torch.linalg.eigh(gram_DD)
    roots_D = values_D.clamp(min=values_D.amax() * 1e-12).sqrt()
    root_DD, inverse_DD = (vectors_DD * roots_D) @ vectors_DD.T, (vectors_DD / roots_D) @ vectors_DD.T
    variances_D, directions_DD = torch.linalg.eigh(root_DD @ covariance_DD @ root_DD)
    variances_R, directions_DR = variances_D.flip(0)[:rank], directions_DD.flip(1)[:, :rank]
    return (directions_DR.T @ inverse_DD).float() @ map_DV, variances_R.clamp(min=0).sqrt()


def _randomized(sample: Sample, rank: int) -> tuple[Tensor, Tensor]:
    """By subspace iteration over chunks of logits, with no matrix larger than [V, rank + 16]; Halko et al. 2011."""
    weights_V, mean_V = sample.moments.weights_V, sample.moments.mean_V
    root_V = weights_V.sqrt()

    def weighted() -> Iterator[Tensor]:
        for logits_LV in sample.centred():
            difference_LV = logits_LV - mean_V
            difference_LV -= (difference_LV @ weights_V)[:, None]
            yield difference_LV * root_V

    width = min(rank + _OVERSAMPLED, sample.vocab_size, max(1, sample.positions))
    generator = torch.Generator().manual_seed(0)
    basis_VR = torch.randn(sample.vocab_size, width, generator=generator).to(root_V.device) * root_V[:, None]
    for _ in range(1 + _ITERATIONS):
        basis_VR = torch.linalg.qr(basis_VR).Q
        product_VR = torch.zeros_like(basis_VR)
        for chunk_LV in weighted():
            product_VR += chunk_LV.T @ (chunk_LV @ basis_VR)
        basis_VR = product_VR
    left_VR, values_R, _ = torch.linalg.svd(basis_VR, full_matrices=False)
    # The product is that of the covariance and an orthonormal basis: its singular values are variances.
    deviations_R = (values_R[:rank] / max(1, sample.positions)).sqrt()
    inverse_V = torch.where(root_V > 0, 1 / root_V, 0)
    return left_VR[:, :rank].T * inverse_V, deviations_R
