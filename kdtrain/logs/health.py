"""Warnings about the course of a run: each rule is a class, and its docstring says when it speaks.

A rule speaks once in a run, or once for each component. What it says is computed from the rows of the tables alone,
so that a resumed run, which reads them again, knows what has been said. Rules are slow to speak: noise of batches,
the first steps, and what a schedule does on purpose are no reason.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from kdtrain.logs.summaries import HealthWarning
from kdtrain.logs.table import Numbers

_LEAST_NORM, _MOST_NORM, _SPIKE, _SPIKE_FACTOR = 0.1, 10.0, 100.0, 10.0
_NORMS, _NORMS_BEFORE_SPIKE = 50, 10
_SMALLEST_NORM = 1e-12
_WEIGHT_SHARE, _LOSS_SHARE, _WEIGHTS = 0.7, 0.5, 20
_MEMORY_BLOCK, _MEMORY_RISES, _MEMORY_GROWTH, _MEMORY_MIB = 50, 8, 0.1, 64.0
_PLATEAU, _PLATEAU_GAIN = 5, 1e-3
_LOSSES, _EVERY, _SWING, _LONGEST_HALF, _CORRELATION = 100, 10, 0.1, 12, 0.5


class Finding(NamedTuple):
    """What a rule has to say: of which kind, about which component, in words."""

    kind: str
    component: str | None
    message: str


class Rule:
    """Looks at rows in their order; says nothing unless a subclass does."""

    def step(self, row: Numbers) -> Iterator[Finding]:
        """A row of ``step_metrics.csv``."""
        yield from ()

    def validation(self, row: Numbers) -> Iterator[Finding]:
        """A row of ``training_metrics.csv`` with a validation."""
        yield from ()


class GradientNorm(Rule):
    r"""``gradient_small``, ``gradient_large``: the gradient's norm is outside 0.1 to 10 for a while.

    Looks at the geometric mean of the last 50 steps, :math:`m_s = \exp \frac{1}{50} \sum_{i<50} \ln g_{s-i}`, with g
    the norm before clipping: speaks where m < 0.1 or m > 10. Nothing is said before step 50, and a single odd step
    moves m little: one of 1000 in a run at 1 makes it 1.15.

    ``gradient_spike``: one norm is above 100, and above 10 times the geometric mean of up to 50 steps before it, of
    which there must be 10.

    A norm that is not finite, as fp16 has now and then before its scaler gives in, is no norm.
    """

    def __init__(self) -> None:
        self._logs: deque[float] = deque(maxlen=_NORMS)

    def step(self, row: Numbers) -> Iterator[Finding]:
        """See `Rule`."""
        norm = row["grad_norm_total"]
        if norm is None or not math.isfinite(norm):
            return
        before = self._mean()
        if len(self._logs) >= _NORMS_BEFORE_SPIKE and norm > max(_SPIKE, _SPIKE_FACTOR * before):
            yield Finding(
                "gradient_spike",
                None,
                f"the gradient's norm jumped to {norm:.4g} from about {before:.3g}; look at the rows of this step, "
                "or lower --lr",
            )
        self._logs.append(math.log(max(norm, _SMALLEST_NORM)))
        mean = self._mean()
        if len(self._logs) < _NORMS or _LEAST_NORM <= mean <= _MOST_NORM:
            return
        kind = "gradient_small" if mean < _LEAST_NORM else "gradient_large"
        advice = "is there anything left to learn?" if mean < _LEAST_NORM else "warm up longer, or lower --lr"
        yield Finding(
            kind,
            None,
            f"the gradient's norm was about {mean:.3g} over the last {_NORMS} steps, outside {_LEAST_NORM:g} to "
            f"{_MOST_NORM:g}; {advice}",
        )

    def _mean(self) -> float:
        return math.exp(sum(self._logs) / len(self._logs)) if self._logs else math.nan


class WeightShare(Rule):
    r"""``weight_dominates``: one component counts for more than the rest together, by its weight and in the loss.

    With w the weights of a step and l the parts of its loss, :math:`w_c / \sum w` is above 0.7 and
    :math:`|l_c| / \sum |l|` above 0.5, both as means over the last 20 steps in which at least two components had a
    weight. The second condition is for normalised components: there a weight is large because the component is small.
    """

    def __init__(self, components: Sequence[str]) -> None:
        self._shares = {name: deque[tuple[float, float]](maxlen=_WEIGHTS) for name in components}

    def step(self, row: Numbers) -> Iterator[Finding]:
        """See `Rule`."""
        weights = {name: row[f"{name}_weight"] or 0.0 for name in self._shares}
        parts = {name: abs(row[f"{name}_loss_weighted"] or 0.0) for name in self._shares}
        if sum(weight > 0 for weight in weights.values()) < 2 or not sum(parts.values()):
            return
        for name, shares in self._shares.items():
            shares.append((weights[name] / sum(weights.values()), parts[name] / sum(parts.values())))
            by_weight, by_loss = (sum(one) / len(shares) for one in zip(*shares, strict=True))
            if len(shares) == _WEIGHTS and by_weight > _WEIGHT_SHARE and by_loss > _LOSS_SHARE:
                yield Finding(
                    "weight_dominates",
                    name,
                    f"{name} has {by_weight:.0%} of all weight and {by_loss:.0%} of the loss; the other components "
                    "hardly count (--loss-weights, --alpha)",
                )


class MemoryGrowth(Rule):
    """``memory_growth``: the process takes more and more memory.

    From the second epoch on (before, what streaming keeps fills up), steps are taken in blocks of 50, and the least
    memory of each is compared with that of the block before: speaks when it rose 8 times or more in a row, by more
    than 10 % and 64 MiB since the first of these. A resumed run starts with less memory, and so anew.
    """

    def __init__(self) -> None:
        self._block: list[float] = []
        self._start = self._last = math.inf
        self._rises = 0

    def step(self, row: Numbers) -> Iterator[Finding]:
        """See `Rule`."""
        memory = row["memory_usage_mb"]
        if memory is None or (row["epoch"] or 0) < 2:
            return
        self._block.append(memory)
        if len(self._block) < _MEMORY_BLOCK:
            return
        least, self._block = min(self._block), []
        if least > self._last:
            self._rises += 1
        else:
            self._start, self._rises = least, 0
        self._last = least
        growth = least - self._start
        if self._rises >= _MEMORY_RISES and growth > max(_MEMORY_MIB, _MEMORY_GROWTH * self._start):
            yield Finding(
                "memory_growth",
                None,
                f"memory of the process rose from {self._start:,.0f} to {least:,.0f} MiB over "
                f"{self._rises * _MEMORY_BLOCK} steps without a fall; it may run out",
            )


class Plateau(Rule):
    r"""``validation_plateau``: the loss on the validation rows gets no better.

    With v the losses of all validations, :math:`\min(v_{n-4..n}) \geq b - 0.001 |b|` for the best of those before,
    :math:`b = \min(v_{1..n-5})`: five validations in a row have not made it lower by a thousandth.
    """

    def __init__(self) -> None:
        self._losses: list[float] = []

    def validation(self, row: Numbers) -> Iterator[Finding]:
        """See `Rule`."""
        loss = row["val_loss"]
        if loss is None or not math.isfinite(loss):
            return
        self._losses.append(loss)
        if len(self._losses) <= _PLATEAU:
            return
        best = min(self._losses[:-_PLATEAU])
        if min(self._losses[-_PLATEAU:]) >= best - _PLATEAU_GAIN * abs(best):
            yield Finding(
                "validation_plateau",
                None,
                f"the last {_PLATEAU} validations did not improve on a loss of {best:.4g}; training may stop here "
                "(--early-stopping-patience), or lower --lr",
            )


class Oscillation(Rule):
    r"""``loss_oscillation``: the loss swings up and down in a rhythm, as it does when the learning rate is too high.

    Every 10 steps the losses of the last 100 are looked at, with the straight line through them taken away; r is what
    remains. Speaks when :math:`\mathrm{sd}(r) > 0.1 |\bar{l}|`, and for some k from 1 to 12 the autocorrelation
    :math:`\rho_k = \overline{r_t r_{t+k}} / \overline{r_t^2}` is below -0.5 and :math:`\rho_{2k}` above 0.5: half a
    period later the loss is on the other side, a period later it is back. Steps of fewer rows, as epochs end with,
    are left out. Noise, however strong, has no such rhythm, and neither has a fall, a single jump or an outlier.
    """

    def __init__(self) -> None:
        self._losses: deque[float] = deque(maxlen=_LOSSES)
        self._seen, self._rows = 0, 0.0

    def step(self, row: Numbers) -> Iterator[Finding]:
        """See `Rule`."""
        loss, rows = row["total_loss_weighted"], row["effective_batch_size"] or 0.0
        self._rows = max(self._rows, rows)
        if loss is None or not math.isfinite(loss) or rows < self._rows:
            return
        self._losses.append(loss)
        self._seen += 1
        if len(self._losses) == _LOSSES and self._seen % _EVERY == 0 and (half := self._half_period()):
            yield Finding(
                "loss_oscillation",
                None,
                f"the loss swung between {min(self._losses):.4g} and {max(self._losses):.4g} every {2 * half} steps "
                f"over the last {_LOSSES}; lower --lr, or take larger batches",
            )

    def _half_period(self) -> int | None:
        losses = np.array(self._losses)
        places = np.arange(_LOSSES)
        rest = losses - np.polyval(np.polyfit(places, losses, 1), places)
        variance = float(np.mean(rest**2))
        if math.sqrt(variance) <= _SWING * abs(float(losses.mean())):
            return None
        correlation = [float(np.mean(rest[k:] * rest[:-k])) / variance for k in range(1, 2 * _LONGEST_HALF + 1)]
        for half in range(1, _LONGEST_HALF + 1):
            if correlation[half - 1] < -_CORRELATION and correlation[2 * half - 1] > _CORRELATION:
                return half
        return None


class Health:
    """All rules over one run."""

    def __init__(self, components: Sequence[str]) -> None:
        self._rules = (GradientNorm(), WeightShare(components), MemoryGrowth(), Plateau(), Oscillation())
        self._found: dict[tuple[str, str | None], HealthWarning] = {}

    @property
    def warnings(self) -> tuple[HealthWarning, ...]:
        """All so far, in the order in which they came up."""
        return tuple(self._found.values())

    def step(self, row: Numbers) -> list[HealthWarning]:
        """New warnings after a row of ``step_metrics.csv``."""
        return self._new(row, [finding for rule in self._rules for finding in rule.step(row)])

    def validation(self, row: Numbers) -> list[HealthWarning]:
        """New warnings after a row of ``training_metrics.csv`` with a validation."""
        return self._new(row, [finding for rule in self._rules for finding in rule.validation(row)])

    def _new(self, row: Numbers, findings: Sequence[Finding]) -> list[HealthWarning]:
        new = []
        for kind, component, message in findings:
            if (kind, component) not in self._found:
                warning = HealthWarning(kind=kind, component=component, step=int(row["step"] or 0), message=message)
                self._found[kind, component] = warning
                new.append(warning)
        return new
