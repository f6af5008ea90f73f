"""Weights of components and the temperature over training."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdstore.errors import UnknownNameError, UsageError
from kdtrain.config import LossConfig
from kdtrain.losses import LOSSES
from kdtrain.mix import Mix
from kdtrain.schedules import interpolate, share_done
from kdtrain.weights import LEAST, MOST, PRESETS, TABLE, Weights, components, lowest_temperature, temperature_at

TOTAL = 101


def weights(total=TOTAL, **options):
    return Weights(LossConfig(**options), total)


def test_presets_and_lists():
    assert PRESETS == {
        "traditional": ("ce", "kl"),
        "enhanced": ("ce", "kl", "pans"),
        "ast_enhanced": ("ce", "kl", "ast"),
        "multi_component": ("focal", "jsd", "semantic"),
    }
    assert components(LossConfig()) == ("focal", "jsd", "semantic")
    assert components(LossConfig(loss_function="traditional")) == ("ce", "kl")
    assert components(LossConfig(loss_components=("jsd", "contrastive"))) == ("jsd", "contrastive")
    assert {*TABLE} == {*LOSSES.names()}


def test_static_weights():
    assert weights(loss_function="traditional", alpha=0.3).at(7) == {"ce": 0.3, "kl": 0.7}
    assert weights(loss_function="enhanced").at(0) == {"ce": 0.5, "kl": 0.5, "pans": 0.1}
    assert weights(loss_function="ast_enhanced", ast_weight=0.2).at(0)["ast"] == 0.2
    assert weights().at(0) == pytest.approx({"focal": 0.5, "jsd": 0.5, "semantic": 0.05})
    given_ = weights(loss_components=("ce", "kl", "pans", "ast"), loss_weights=(0.4, 0.35, 0.15, 0.1), alpha=0.25)
    assert given_.at(50) == pytest.approx({"ce": 0.1, "kl": 0.2625, "pans": 0.15, "ast": 0.1})


def test_dynamic_weights_follow_the_table():
    dynamic = weights(loss_components=("ce", "kl", "pans", "ast"), enable_dynamic_weighting=True)
    start, middle, end = (dynamic.at(step) for step in (0, 50, 100))
    # At the start ast is off; alpha is 0.5 there and 0.7 at the end.
    assert start == pytest.approx({"ce": 0.35 * 0.5, "kl": 0.6 * 0.5, "pans": 0.05, "ast": 0.0})
    assert middle == pytest.approx({"ce": 0.3 * 0.6, "kl": 0.475 * 0.4, "pans": 0.15, "ast": 0.075})
    assert end == pytest.approx({"ce": 0.25 * 0.7, "kl": 0.35 * 0.3, "pans": 0.25, "ast": 0.15})
    assert dynamic.at(1000) == end


@given(
    names=st.lists(st.sampled_from(sorted(TABLE)), min_size=1, unique=True),
    step=st.integers(0, TOTAL),
    starts=st.lists(st.just(0.0) | st.floats(1e-3, 2), min_size=9, max_size=9),
    shape=st.sampled_from(["linear", "cosine"]),
)
def test_dynamic_weights_are_clamped_and_sum_to_one(names, step, starts, shape):
    ends = starts[::-1]
    options = {
        "loss_components": tuple(names), "loss_weights": tuple(starts[: len(names)]), "alpha": 0.5,
        "end_weights": tuple(ends[: len(names)]), "enable_dynamic_weighting": True, "weight_shape": shape,
        "semantic_loss_scale": 1.0,
    }  # fmt: skip
    if not any(ends[: len(names)]):
        with pytest.raises(UsageError, match="at the end"):
            weights(**options)
        return
    made = weights(**options)
    share = share_done(step, TOTAL)
    alpha = 0.5 + 0.2 * share
    sides = {name: {True: alpha, False: 1 - alpha, None: 1}[LOSSES.get(name).hard] for name in names}
    base = {name: weight / sides[name] for name, weight in made.at(step).items()}
    live = [weight for weight in base.values() if weight]
    assert sum(live) == pytest.approx(1 if live else 0)
    if live:
        assert max(live) / min(live) <= MOST / LEAST * (1 + 1e-9)
    if len(live) == 1:
        assert live[0] == pytest.approx(1)


def test_alpha_leans_on_the_teacher_while_labels_get_worse():
    made = weights(loss_function="traditional", enable_dynamic_weighting=True)
    before = made.at(100)
    made.observe_validation({"ce": 2.0, "kl": 9.0})
    assert made.at(100) == before
    for _ in range(9):
        made.observe_validation({"ce": 2.1, "kl": 1.0})
    low = made.at(100)
    assert low["ce"] / before["ce"] == pytest.approx(0.5 / 0.7)  # 0.2 are taken at most
    made.observe_validation({"ce": 1.9, "kl": 1.0})
    assert low["ce"] < made.at(100)["ce"] < before["ce"]
    assert made.reference() == pytest.approx({"ce": 0.25 / 0.6 * 0.5, "kl": 0.35 / 0.6 * 0.5})
    made.observe_validation({"ce": float("nan"), "kl": 1.0})
    assert made.at(100) != low
    static = weights(loss_function="traditional")
    static.observe_validation({"ce": 1.0})
    static.observe_validation({"ce": 3.0})
    assert static.at(100) == {"ce": 0.5, "kl": 0.5}


def test_components_can_be_introduced_late():
    made = weights(loss_components=("ce", "pans"), introduce_at=(0, 0.5))
    assert [made.at(step)["pans"] for step in (0, 49, 50, 100)] == [0, 0, 0.1, 0.1]
    assert made.names == ("ce", "pans")


def test_normalised_components_count_alike():
    made = weights(loss_components=("ce", "pans"), loss_weights=(1, 1), alpha=1, normalize_components=True)
    assert made.at(0) == {"ce": 1, "pans": 1}
    made.observe({"pans": 0.0})  # nothing is known of its size yet
    assert made.at(1) == {"ce": 1, "pans": 1}
    made.load_state_dict(weights(loss_components=("ce", "pans")).state_dict())
    for _ in range(30):
        made.observe({"ce": 8.0, "pans": 0.5})
    assert made.at(30) == pytest.approx({"ce": 1 / 8, "pans": 2})
    other = weights(loss_components=("ce", "pans"), loss_weights=(1, 1), alpha=1, normalize_components=True)
    other.load_state_dict(made.state_dict())
    assert other.at(30) == made.at(30)
    assert made.reference() == {"ce": 1, "pans": 1}


def test_a_component_of_tiny_size_is_not_blown_up():
    made = weights(loss_components=("ce", "ast"), loss_weights=(1, 1), alpha=1, normalize_components=True)
    made.observe({"ce": 2.0, "ast": 1e-9})
    assert made.at(1)["ast"] <= 1000


def test_components_that_alpha_may_bring_back_are_kept():
    """Alpha ends at 1, and gives some of it back when labels get worse."""
    made = weights(loss_function="traditional", alpha=0.95, enable_dynamic_weighting=True)
    for loss in (1.0, 2.0, 2.0):
        made.observe_validation({"ce": loss})
    assert made.at(100)["kl"] > 0
    assert {name for name, weight in made.at(100).items() if weight} <= {*made.names}
    assert weights(loss_function="traditional", alpha=1.0, enable_dynamic_weighting=True).names == ("ce", "kl")


def test_what_is_introduced_late_takes_no_share_before():
    made = weights(loss_components=("ce", "pans"), introduce_at=(0, 0.5), enable_dynamic_weighting=True, alpha=1)
    assert made.at(0) == {"ce": 1, "pans": 0}


def test_what_has_no_weight_is_left_out():
    assert Mix(LossConfig(loss_function="traditional", alpha=1)).names == ("ce",)
    assert not Mix(LossConfig(loss_function="traditional", alpha=1)).needs_signal
    assert Mix(LossConfig(loss_function="traditional", alpha=0)).names == ("kl",)
    with pytest.raises(UsageError, match="weight"):
        Mix(LossConfig(loss_components=("ce",), alpha=0))
    with pytest.raises(UsageError, match="ce or focal"):
        Mix(LossConfig(loss_components=("kl",), enable_token_weighting=True))
    with pytest.raises(UsageError, match="--semantic-embedding"):
        Mix(LossConfig(loss_components=("kl",), semantic_embedding="mini"))


def test_wrong_lists_are_refused():
    with pytest.raises(UnknownNameError, match="'kl'"):
        components(LossConfig(loss_components=("kll",)))
    with pytest.raises(UsageError, match="once"):
        components(LossConfig(loss_components=("kl", "kl")))
    with pytest.raises(UsageError, match="--loss-weights"):
        components(LossConfig(loss_weights=(1, 2)))
    with pytest.raises(UsageError, match="--introduce-at"):
        components(LossConfig(introduce_at=(0.1,)))


@pytest.mark.parametrize("shape", ["exponential", "linear", "cosine"])
def test_the_temperature_falls(shape):
    config = LossConfig(temperature_shape=shape)
    course = [temperature_at(config, step, TOTAL) for step in range(TOTAL)]
    assert (course[0], course[-1]) == pytest.approx((4.0, 1.5))
    assert course == sorted(course, reverse=True)
    assert lowest_temperature(config) == pytest.approx(1.5)
    middle = {"exponential": (4 * 1.5) ** 0.5, "linear": 2.75, "cosine": 2.75}[shape]
    assert course[50] == pytest.approx(middle)


def test_the_temperature_stays():
    assert temperature_at(LossConfig(temperature_decay=False), 99, TOTAL) == 4.0
    assert temperature_at(LossConfig(temperature=1.0), 99, TOTAL) == 1.0
    assert Mix(LossConfig(temperature=3.0)).temperatures == pytest.approx((1.5, 3.0))


def test_interpolation_meets_its_ends():
    for shape in ("linear", "cosine", "exponential"):
        assert interpolate(0.2, 3.0, 0.0, shape) == pytest.approx(0.2)
        assert interpolate(0.2, 3.0, 1.0, shape) == pytest.approx(3.0)
    assert share_done(0, 1) == 0
    assert share_done(7, 8) == 1
