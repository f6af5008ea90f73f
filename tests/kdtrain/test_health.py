"""Warnings: each fault gives its own and no other; healthy runs, however noisy, give none."""

import math
import random
import statistics

import pytest

from kdtrain.logs.health import Health

STEPS, EPOCH = 1200, 100


class Course:
    """A run of three components on its way down, with the noise of batches; faults replace one of its methods."""

    def __init__(self, seed=0, noise=0.15):
        self.random, self.noise = random.Random(seed), noise

    def loss(self, step):
        return (6 * math.exp(-step / 200) + 1.5) * math.exp(self.random.gauss(0, self.noise))

    def norm(self, step):
        return (2 + 6 * math.exp(-step / 50)) * math.exp(self.random.gauss(0, 0.4))

    def weights(self, step):
        """From the labels to the teacher and back, as dynamic weights go."""
        share = step / STEPS
        return {"focal": 0.3 - 0.05 * share, "jsd": 0.6 - 0.25 * share, "semantic": 0.05 + 0.2 * share}

    def rows(self, step):
        return 8

    def memory(self, step):
        """What streaming keeps fills up in the first epoch."""
        return 1500 + 5 * min(step, EPOCH) + self.random.uniform(0, 30)

    def validation(self, step):
        return (5 * math.exp(-step / 300) + 1.6) * math.exp(self.random.gauss(0, 0.005))

    def kinds(self, components=("focal", "jsd", "semantic"), steps=STEPS):
        """The warnings of the whole run."""
        health = Health(components)
        health.validation({"step": 0, "val_loss": self.validation(0)})
        for step in range(1, steps + 1):
            weights, loss = self.weights(step), self.loss(step)
            total = sum(weights.values())
            row = {
                "step": step, "epoch": 1 + (step - 1) // EPOCH, "total_loss_weighted": loss,
                "effective_batch_size": self.rows(step),
                "grad_norm_total": self.norm(step), "memory_usage_mb": self.memory(step),
                **{f"{name}_weight": weight for name, weight in weights.items()},
                **{f"{name}_loss_weighted": loss * weight / total for name, weight in weights.items()},
            }  # fmt: skip
            health.step(row)
            if step % EPOCH == 0:
                health.validation({"step": step, "val_loss": self.validation(step)})
        return [(warning.kind, warning.component) for warning in health.warnings]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("noise", [0.05, 0.3, 0.6])
def test_a_healthy_run_gives_no_warning(seed, noise):
    assert Course(seed, noise).kinds() == []


class Small(Course):
    """The gradient vanishes."""

    def norm(self, step):
        return super().norm(step) * math.exp(-step / 150)


class Large(Course):
    """It grows without an end."""

    def norm(self, step):
        return super().norm(step) * math.exp(step / 300)


class Spike(Course):
    """One step in which it jumps."""

    def norm(self, step):
        return 350 if step == 700 else super().norm(step)


class Heavy(Course):
    """One component has four fifths of all weight."""

    def weights(self, step):
        return {"focal": 0.1, "jsd": 0.8, "semantic": 0.1}


class Leak(Course):
    """A MiB in two steps."""

    def memory(self, step):
        return super().memory(step) + step / 2


class Worse(Course):
    """The validation loss gets worse after half of the run."""

    def validation(self, step):
        return super().validation(min(step, STEPS // 2)) + max(0, step - STEPS // 2) / 1e3


class Swing(Course):
    """The loss swings by a quarter, in so many steps."""

    period = 8

    def loss(self, step):
        return super().loss(step) * (1 + 0.35 * math.sin(2 * math.pi * step / self.period))


class FastSwing(Swing):
    """Up in one step, down in the next."""

    def loss(self, step):
        return Course.loss(self, step) * (1.3 if step % 2 else 0.7)


class SlowSwing(Swing):
    """A swing of many steps."""

    period = 22


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("course", "expected"),
    [
        (Small, ("gradient_small", None)),
        (Large, ("gradient_large", None)),
        (Spike, ("gradient_spike", None)),
        (Heavy, ("weight_dominates", "jsd")),
        (Leak, ("memory_growth", None)),
        (Worse, ("validation_plateau", None)),
        (Swing, ("loss_oscillation", None)),
        (FastSwing, ("loss_oscillation", None)),
        (SlowSwing, ("loss_oscillation", None)),
    ],
)
def test_each_fault_gives_its_own_warning_once(course, expected, seed):
    assert course(seed).kinds() == [expected]


class Jumps(Course):
    """What schedules do on purpose, and what happens now and then."""

    def loss(self, step):
        outlier = 8 if step in (333, 350) else 0
        return super().loss(step) + (3 if step > 500 else 0) + outlier

    def norm(self, step):
        return math.inf if step % 97 == 0 else 1000 if step < 5 else super().norm(step)

    def memory(self, step):
        """Resumed three times: it starts low and fills up."""
        return super().memory(step) - 700 + 7 * min(step % 300, 100)


@pytest.mark.parametrize("seed", range(5))
def test_jumps_outliers_and_restarts_are_no_faults(seed):
    assert Jumps(seed).kinds() == []


def test_a_short_batch_at_the_end_of_each_epoch_is_no_swing():
    """Of one row, which contrastive finds nothing to tell from."""

    class TwoSteps(Course):
        def loss(self, step):
            return 3.0 if step % 2 else 0.0

        def rows(self, step):
            return 8 if step % 2 else 1

    assert ("loss_oscillation", None) not in TwoSteps().kinds()


def test_one_component_alone_dominates_nothing():
    class Alone(Course):
        def weights(self, step):
            return {"ce": 1.0}

    assert Alone().kinds(("ce",)) == []


def test_a_component_before_the_others_are_introduced_dominates_nothing():
    class Introduced(Course):
        def weights(self, step):
            return {"focal": 1.0, "jsd": 1.0 if step > 600 else 0.0, "semantic": 1.0 if step > 600 else 0.0}

    assert Introduced().kinds() == []


def test_a_large_weight_of_a_small_component_is_no_fault():
    """As normalised components have it: the weight is one over the component's size."""
    health = Health(("focal", "jsd"))
    for step in range(1, 200):
        row = {"step": step, "epoch": 1, "effective_batch_size": 8, "total_loss_weighted": 1.0}
        row |= {"grad_norm_total": 1.0, "memory_usage_mb": 1.0}
        health.step(row | {"focal_weight": 100.0, "jsd_weight": 1.0, "focal_loss_weighted": 0.5,
                           "jsd_loss_weighted": 0.5})  # fmt: skip
    assert health.warnings == ()


def test_the_large_norm_of_a_few_steps_is_no_trend():
    class Odd(Course):
        def norm(self, step):
            return 90 if 500 <= step < 505 else super().norm(step)

    assert Odd().kinds() == []
    assert statistics.geometric_mean([90] * 5 + [2] * 45) < 10


def test_a_short_run_is_not_judged():
    class Wild(Course):
        def norm(self, step):
            return 5000.0

    assert Wild().kinds(steps=40) == []
