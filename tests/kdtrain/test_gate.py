"""Which of the measured angles decides, between and outside of the temperatures that were measured."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdstore.store.manifest import CodecRecord
from kdtrain.gate import governing, measured, worst_between

from .conftest import fidelity_of

CODEC = CodecRecord(name="topk", config={"k": 32})
ANGLES = {1.0: 4.0, 2.0: 46.6, 4.0: 33.9}


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [(1, 1), (2, 2), (4, 4), (1.5, 2), (3, 2), (0.5, 1), (8, 4)],
    ids=["measured", "measured", "measured", "worse above", "worse below", "nearest above", "nearest below"],
)
def test_the_record_that_governs(temperature, expected):
    records = [fidelity_of(CODEC, "kl", T, angle) for T, angle in ANGLES.items()]
    for order in (records, records[::-1]):
        assert governing(order, temperature).temperature == expected


def test_the_worst_of_several_at_one_temperature_counts():
    records = [fidelity_of(CODEC, "kl", 2.0, angle) for angle in (3.0, 12.0, 5.0)]
    for temperature in (1.0, 2.0, 4.0):
        assert governing(records, temperature).angle_deg == 12.0


def test_nothing_measured_governs_nothing():
    assert governing([], 2.0) is None
    assert worst_between([], 1.5, 4.0) is None
    assert measured(None, "kl") == []


def test_only_what_the_store_was_written_with_counts():
    own = fidelity_of(CODEC, "kl", 1.0, 4.0)
    others = [
        fidelity_of(CODEC, "jsd", 1.0, 4.0),
        fidelity_of(CODEC, "kl", 1.0, 4.0, settings={"k": 512}),
        fidelity_of(CODEC, "kl", 1.0, 4.0, codec="lowrank"),
    ]
    record = CODEC.model_copy(update={"fidelity": (*others, own)})
    assert measured(record, "kl") == [own]


@pytest.mark.parametrize(
    ("lowest", "highest", "expected"),
    [(1, 1, 1), (1, 4, 2), (1.5, 4, 2), (2.5, 4, 2), (4, 8, 4), (0.5, 1, 1)],
    ids=["one", "all", "within", "beside", "above", "below"],
)
def test_on_the_way_between_two_temperatures_the_worst_governs(lowest, highest, expected):
    records = [fidelity_of(CODEC, "kl", T, angle) for T, angle in ANGLES.items()]
    assert worst_between(records, lowest, highest).temperature == expected


QUARTERS = st.integers(1, 20).map(lambda quarters: quarters / 4)


@given(st.lists(st.tuples(QUARTERS, st.integers(0, 90)), min_size=1, max_size=6), QUARTERS, QUARTERS)
def test_the_worst_between_is_the_worst_of_every_temperature_between(claims, one, other):
    records = [fidelity_of(CODEC, "kl", T, angle) for T, angle in claims]
    lowest, highest = sorted((one, other))
    # Between two quarters nothing was measured, so that eighths are all there is to see.
    eighths = [lowest + i / 8 for i in range(round(8 * (highest - lowest)) + 1)]
    expected = max(governing(records, temperature).angle_deg for temperature in eighths)
    assert worst_between(records, lowest, highest).angle_deg == expected
