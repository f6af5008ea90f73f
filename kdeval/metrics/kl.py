"""How far the model's distributions are from its teacher's."""

from typing import ClassVar, Self

from kdeval.metrics import METRICS, Context, Direction, TokenMean
from kdeval.samples import Group, TokenScores


@METRICS.register("kl")
class Kl(TokenMean):
    r"""Kullback-Leibler divergence from the teacher p to the model q, in nats per label token.

    .. math:: \frac{1}{L} \sum_{i=1}^{L} \sum_{v} p_T(v) \log \frac{p_T(v)}{q_T(v)}

    over the L label tokens that have a signal of the teacher; both are softened by the temperature T of the
    evaluation. Tokens that the signal keeps as one category are one here too, which can only lower the value (sparse
    codecs). The factor T^2 by which a training loss multiplies it (Hinton et al. 2015, arXiv:1503.02531) is left out.
    0 where the two agree everywhere. Samples without a signal count for nothing; undefined without any.

    >>> from kdeval.samples import Sample
    >>> tokens = TokenScores(nll=[0.7, 0.7], confidence=[0.5, 0.5], correct=[True, True], critical={},
    ...                      teacher_kl=[0.25, 0.75], teacher_agrees=[True, True], temperature=2.0)
    >>> Kl().score([Sample("1", tokens=tokens), Sample("2")])
    {'kl': 0.5}
    """

    name = "kl"
    title = "KL from the teacher"
    unit = "nats/token"
    range = (0.0, None)
    direction: ClassVar[Direction] = "lower"
    inputs: ClassVar[Group] = "teacher_signal"
    aggregation = "mean over the label tokens of all samples with a teacher's signal"

    def __init__(self, temperature: float = Context.temperature) -> None:
        self._temperature = temperature
        self.title = f"KL from the teacher at T = {temperature:g}"  # type: ignore[misc]  # of this instance

    @classmethod
    def create(cls, context: Context) -> Self:
        """The metric at the temperature of the evaluation."""
        return cls(context.temperature)

    @property
    def implementation(self) -> str:
        """With the temperature, without which values do not compare."""
        return f"{super().implementation} at T = {self._temperature:g}"

    def total(self, tokens: TokenScores) -> float:
        """Summed divergence, in nats."""
        return sum(tokens.teacher_kl or ())
