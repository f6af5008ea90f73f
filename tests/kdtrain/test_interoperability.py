"""The examples of docs/interoperability.md run: each row is seen once, in the loader's order, across a kill too."""

import json
import re
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from kdstore.store.reader import Store
from kdtrain.stream.config import LoaderConfig
from kdtrain.stream.loader import Loader
from kdtrain.stream.order import OrderConfig

ROOT = Path(__file__).parents[2]
WATCH = Path(__file__).parent / "watch_student.py"
EXAMPLES = dict(
    re.findall(
        r"^`(\w+\.py)`:\n\n```python\n(.*?)^```$",
        (ROOT / "docs/interoperability.md").read_text(encoding="utf-8"),
        re.DOTALL | re.MULTILINE,
    )
)
PATIENCE_S = 180
SAVED_AT, KILLED_AT = 8, 10  # the examples save every fourth step; epochs have six
Rows = list[list[int]]


@pytest.fixture(scope="module")
def store(make_store, tmp_path_factory) -> Store:
    return make_store(tmp_path_factory.mktemp("interoperability") / "a.kd", 71, part_rows=23, block_rows=5)


@pytest.fixture
def scripts(tmp_path) -> Path:
    for name, text in EXAMPLES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def loader(store: Store) -> Loader:
    """The loader of the examples, for one process."""
    return Loader(store, LoaderConfig(batch_rows=12, order=OrderConfig(seed=1)))


def positions(batches) -> list[Rows]:
    return [batch.positions_BP.tolist() for batch in batches]


def two_epochs(store: Store) -> list[Rows]:
    """The input ids of every row of every step of two epochs."""
    source = loader(store)
    return [
        [store.part(part).read(block, block + 1).row(row)["input_ids"].tolist() for part, block, row in step]
        for step in positions([*source, *source])
    ]


def run(seen: Path, world: int, die_at: int, *script: object) -> subprocess.CompletedProcess[str]:
    """Run a script in so many processes; which rows their students are given is written to ``seen``."""
    seen.mkdir()
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world)]
    command = [sys.executable, *(torchrun if world > 1 else []), str(WATCH), str(seen), str(die_at)]
    command += map(str, script)
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)


def given(seen: Path, world: int) -> list[Rows]:
    """The rows of each step, of all processes."""
    ranks = [
        [json.loads(line) for line in (seen / f"{rank}.jsonl").read_text().splitlines()] for rank in range(world)
    ]
    return [[row for rank in step for row in rank] for step in zip(*ranks, strict=False)]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_plain_example_sees_the_loaders_order(store, scripts, workers):
    result = run(scripts / "seen", 1, 0, scripts / "plain.py", store.root, workers)
    assert result.returncode == 0, result.stderr
    assert re.findall(r"^epoch (\d): loss \d", result.stdout, re.MULTILINE) == ["0", "1"]
    assert given(scripts / "seen", 1) == two_epochs(store)


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in EXAMPLES if name != "plain.py"])
def test_an_example_is_killed_and_goes_on_in_another_number_of_processes(store, scripts, name):
    """Two processes share every row, never the same one; what they had not saved, one process does again."""
    killed = run(scripts / "killed", 2, KILLED_AT, scripts / name, store.root, scripts / "out")
    assert "SIGKILL" in killed.stderr
    again = run(scripts / "again", 1, 0, scripts / name, store.root, scripts / "out")
    assert again.returncode == 0, again.stderr
    steps = two_epochs(store)
    assert given(scripts / "killed", 2) == steps[: KILLED_AT - 1]
    assert given(scripts / "again", 1) == steps[SAVED_AT:]


def test_the_page_has_all_examples_and_they_are_clean(scripts):
    assert list(EXAMPLES) == ["plain.py", "with_lightning.py", "with_trainer.py", "with_accelerate.py"]
    rules = ["check", "--no-cache", "--extend-ignore", "D1,N816,T20"]  # scripts that print, not a package
    for command in (rules, ["format", "--check", "--no-cache"]):
        result = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--config", str(ROOT / "pyproject.toml"), str(scripts)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert result.returncode == 0, result.stdout + result.stderr


def test_who_takes_as_many_batches_as_there_are_has_ended_the_epoch(store):
    """Trainers count batches and never ask for one more."""
    source, all_at_once = loader(store), loader(store)
    expected = positions([*all_at_once, *all_at_once])
    found = [positions(islice(source, len(source))) for _ in range(2)]
    assert [*found[0], *found[1]] == expected
    assert source.state_dict() == all_at_once.state_dict()


def test_workers_do_not_move_the_state_and_reach_the_next_epoch_only_if_they_persist(store):
    source, alone = loader(store), loader(store)
    first, second = positions(alone), positions(alone)
    start = source.state_dict()
    forgetful = DataLoader(source, batch_size=None, num_workers=2)
    assert [positions(forgetful), positions(forgetful)] == [first, first]
    lasting = DataLoader(source, batch_size=None, num_workers=2, persistent_workers=True)
    assert [positions(lasting), positions(lasting)] == [first, second]
    assert source.state_dict() == start


PREPARED = """
import json, sys
from pathlib import Path
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from torch.utils.data import DataLoader
from kdstore.store.reader import Store
from kdtrain.stream.config import LoaderConfig
from kdtrain.stream.loader import Loader
from kdtrain.stream.order import OrderConfig

store, out = Store(Path(sys.argv[1])), Path(sys.argv[2])
accelerator = Accelerator(cpu=True)
rank, world = accelerator.process_index, accelerator.num_processes
loader = Loader(store, LoaderConfig(12, OrderConfig(seed=1), rank=rank, world=world, last="pad"))
assert accelerator.prepare(loader) is loader
rows = [batch.positions_BP.tolist() for batch in loader]
found = {"rows": rows}
for name, dispatch in (("share of shares", False), ("dispatched", None)):
    accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(dispatch_batches=dispatch))
    try:
        found[name] = next(iter(accelerator.prepare(DataLoader(loader, batch_size=None)))).rows
    except (TypeError, RuntimeError) as error:
        found[name] = type(error).__name__
(out / f"{rank}.json").write_text(json.dumps(found))
"""


def test_what_accelerate_prepares_is_never_a_share_of_a_share(store, tmp_path):
    """As the page's table says: the loader itself is left alone, a DataLoader over it is refused."""
    (tmp_path / "prepared.py").write_text(PREPARED)
    run(tmp_path / "seen", 2, 0, tmp_path / "prepared.py", store.root, tmp_path)
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert [[*a, *b] for a, b in zip(*(rank["rows"] for rank in ranks), strict=True)] == positions(loader(store))
    assert [rank["share of shares"] for rank in ranks] == ["TypeError"] * 2
    # The other process waits for the one that distributes.
    assert [rank["dispatched"] for rank in ranks] == ["TypeError", "RuntimeError"]
