"""How often the student writes what does not parse."""

from collections.abc import Sequence
from typing import ClassVar

from kdtrain.losses import LOSSES, SampleLoss


@LOSSES.register("ast")
class AstInvalidity(SampleLoss):
    r"""Expected share of outputs that javalang does not parse as Java statements.

    .. math:: \sum_{\text{rows}} \mathrm{E}_{s \sim \pi} \, r(s), \qquad
              \nabla = (r(s) - r(g)) \, \nabla \log \pi(s)

    for the student's own distribution :math:`\pi` over outputs at T = 1, one sample s of it per row, its greedy
    output g, and r = 1 where a text does not parse, else 0. Parsing has no derivative: the gradient is that of the
    policy (REINFORCE, Williams 1992) with the greedy output as baseline (self-critical training, Rennie et al. 2017,
    arXiv:1612.00563), which does not depend on the sample and so leaves the estimate unbiased. The value logged is
    r(s), per row sampled; samples are keyed by seed, step and sample id. Needs no signal; javalang runs in a process
    of its own.
    """

    name: ClassVar[str] = "ast"

    def __call__(self, valid: Sequence[bool]) -> list[float]:
        """See `SampleLoss`."""
        return [0.0 if one else 1.0 for one in valid]
