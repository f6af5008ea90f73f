"""Which of the measured angles decides, between and outside of the temperatures that were measured."""

import pytest

from kdstore.store.manifest import CodecRecord
from kdtrain.gate import governing, measured

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
