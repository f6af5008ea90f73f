"""The plan: it fits the limit, what does not is refused, and limits of cgroups count."""

import subprocess
import sys
from dataclasses import replace

import psutil
import pytest
import torch

from kdstore.errors import CapabilityError
from kdtrain.stream.config import LoaderConfig
from kdtrain.stream.loader import Loader
from kdtrain.stream.memory import available_bytes
from kdtrain.stream.order import OrderConfig
from kdtrain.stream.plan import Demand, make_plan, measure

CPU = torch.device("cpu")
MIB = 1 << 20


@pytest.fixture(scope="module")
def store(make_store, tmp_path_factory):
    # Dense signals, so that a block of 32 rows takes most of a hundred kilobytes.
    return make_store(
        tmp_path_factory.mktemp("plan") / "a.kd", 640, codec="dense", codec_config={"dtype": "f32"}, part_rows=128,
        block_rows=32,
    )  # fmt: skip


def plan(store, limit, residency="auto", **order):
    demand = Demand(["input_ids", "labels", "teacher"], OrderConfig(0, **{"group_blocks": 4, **order}), 8, 1)
    return make_plan(store, measure(store, demand.fields), demand, limit, residency, 1, CPU)


def test_residency_follows_the_limit(store):
    large = plan(store, 1 << 30)
    assert (large.residency, large.ahead) == ("full", 1)
    window = plan(store, 1 << 30, "window")
    assert (window.residency, window.ahead) == ("window", 1)
    assert window.expected_peak < large.expected_peak <= 1 << 30
    # A little less than the whole takes, and the rows come and go.
    assert plan(store, large.expected_peak - MIB // 2).residency == "window"
    # A little less than two groups take, and none is read ahead.
    assert plan(store, window.expected_peak - MIB // 8, "window").ahead == 0


def test_what_does_not_fit_is_refused_with_the_largest_group_that_would(store):
    least = plan(store, 1 << 30, "window", group_blocks=1).expected_peak
    with pytest.raises(CapabilityError, match=r"--group-blocks \d+ or less") as caught:
        plan(store, least + MIB // 4, "window", group_blocks=20)
    largest = int(str(caught.value).split("--group-blocks ")[1].split()[0])
    assert 1 <= largest < 20
    assert plan(store, least + MIB // 4, "window", group_blocks=largest).ahead == 0
    with pytest.raises(CapabilityError, match="--group-blocks"):
        plan(store, least + MIB // 4, "window", group_blocks=largest + 1)
    with pytest.raises(CapabilityError, match="no group is small enough"):
        plan(store, MIB)
    with pytest.raises(CapabilityError, match="--residency window"):
        plan(store, least, "full")


def test_the_plan_never_changes_the_order(store):
    tight = plan(store, 1 << 30, "window").expected_peak
    config = LoaderConfig(8, OrderConfig(1, group_blocks=4), ram_limit=tight)
    rows = [
        [batch.positions_BP.tolist() for batch in Loader(store, c)]
        for c in (config, replace(config, ram_limit=1 << 31))
    ]
    assert rows[0] == rows[1]


def test_the_default_is_a_quarter_of_what_is_available(store):
    found = Loader(store, LoaderConfig(8, OrderConfig(1))).plan.limit
    assert found == pytest.approx(psutil.virtual_memory().available / 4, rel=0.2)


@pytest.mark.parametrize("version", [1, 2])
def test_limits_of_cgroups_count(tmp_path, version):
    root, line, names = (
        (tmp_path / "memory", "7:memory:/job/step\n", ("memory.usage_in_bytes", "memory.limit_in_bytes"))
        if version == 1
        else (tmp_path, "0::/job/step\n", ("memory.current", "memory.max"))
    )
    (root / "job" / "step").mkdir(parents=True)
    (tmp_path / "membership").write_text(f"1:cpu:/elsewhere\n{line}")

    def limit(path, usage, most, cached=0):
        (root / path / names[0]).write_text(f"{usage}\n")
        (root / path / names[1]).write_text(f"{most}\n")
        (root / path / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\n")

    def available():
        return available_bytes(tmp_path, tmp_path / "membership")

    free = psutil.virtual_memory().available
    limit("job/step", 100, "max" if version == 2 else 2**63 - 4096)
    assert available() == pytest.approx(free, rel=0.1)
    limit("job", 30 * MIB, 100 * MIB)
    assert available() == 70 * MIB
    limit("job/step", 20 * MIB, 50 * MIB, cached=10 * MIB)
    assert available() == 40 * MIB
    limit("job", 100 * MIB, 100 * MIB)
    assert available() == 0


def test_a_store_streams_within_a_limit_of_the_address_space(store):
    # What is planned is also what is taken: the process may map little more than the plan says.
    found = subprocess.run(
        [sys.executable, "-c", LIMITED, str(store.root)], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.split() == ["640", "640"]


LIMITED = """
import resource, sys
import psutil, torch
torch.set_num_threads(1)
from kdstore.store.reader import Store
from kdtrain.stream.config import LoaderConfig
from kdtrain.stream.loader import Loader
from kdtrain.stream.order import OrderConfig
most = psutil.Process().memory_info().vms + (450 << 20)
resource.setrlimit(resource.RLIMIT_AS, (most, most))
config = LoaderConfig(8, OrderConfig(1, group_blocks=4), ram_limit=300 << 20, residency="window")
loader = Loader(Store(sys.argv[1]), config)
for epoch in range(2):
    print(sum(batch.rows for batch in loader))
"""
