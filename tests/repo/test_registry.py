"""A registry finds components by file name and by entry point, and says where each comes from."""

import sys
from collections.abc import Iterator
from importlib import import_module, invalidate_caches
from itertools import count
from pathlib import Path

import pytest

from kdstore.codecs import CODECS
from kdstore.errors import UnknownNameError, UsageError
from kdstore.registry import Registry
from kdstore.sources import SOURCES
from kdstore.tasks import TASKS

_NUMBERS = count()


class Plugins:
    """A package of components on ``sys.path`` whose registry is ``PARTS``."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        self.name = name
        self.write("__init__", f'from kdstore.registry import Registry\nPARTS = Registry("part", "{name}")\n')

    @property
    def registry(self) -> Registry[object]:
        found: Registry[object] = import_module(self.name).PARTS
        return found

    def write(self, module: str, text: str) -> None:
        path = self.directory / self.name / f"{module}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        invalidate_caches()

    def add(self, module: str, component: str | None = None) -> None:
        """A module with a class registered as ``component``, by default its own name."""
        self.write(
            module,
            f"from {self.name} import PARTS\n@PARTS.register({component or module!r})\nclass Found:\n    pass\n",
        )

    def add_distribution(self, points: dict[str, str]) -> None:
        """Install a distribution with these entry points: only its metadata lie there."""
        info = self.directory / f"dist_{self.name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: dist-{self.name}\nVersion: 1.0\n")
        lines = [f"[{self.name}]", *(f"{name} = {value}" for name, value in points.items())]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
        invalidate_caches()

    def imported(self) -> set[str]:
        """Modules of the package that have been imported."""
        return {name.removeprefix(f"{self.name}.") for name in sys.modules if name.startswith(f"{self.name}.")}


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plugins]:
    monkeypatch.syspath_prepend(tmp_path)
    name = f"plugins_{next(_NUMBERS)}"
    yield Plugins(tmp_path, name)
    for module in [module for module in sys.modules if module.startswith(name)]:
        del sys.modules[module]


def test_names_come_from_files_without_importing_them(plugins: Plugins) -> None:
    plugins.write("broken", "1 / 0")
    plugins.write("_helper", "1 / 0")
    plugins.add("good")
    assert plugins.registry.names() == ["broken", "good"]
    assert plugins.imported() == set()


def test_only_the_module_asked_for_is_imported(plugins: Plugins) -> None:
    plugins.add("good")
    plugins.write("broken", "1 / 0")
    assert plugins.registry.get("good").__name__ == "Found"  # type: ignore[attr-defined]
    assert plugins.imported() == {"good"}
    assert plugins.registry.get("good") is plugins.registry.get("good")


def test_a_new_file_is_found_at_once(plugins: Plugins) -> None:
    registry = plugins.registry
    assert registry.names() == []
    plugins.add("late")
    assert registry.names() == ["late"]
    assert registry.origin("late") == f"{plugins.name}.late"


@pytest.mark.parametrize(
    ("asked", "said"),
    [("gooood", "Did you mean 'good'?"), ("zzz", "Known: best, good."), ("_helper", "Known: best, good.")],
)
def test_an_unknown_name_suggests_known_ones(plugins: Plugins, asked: str, said: str) -> None:
    plugins.add("good")
    plugins.add("best")
    plugins.write("_helper", "")
    with pytest.raises(UnknownNameError, match="Expected a known part") as error:
        plugins.registry.get(asked)
    assert repr(asked) in str(error.value)
    assert str(error.value).endswith(said)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "from PACKAGE import PARTS\nPARTS.register('other')(int)\n"])
def test_a_module_that_does_not_keep_its_promise_is_named(plugins: Plugins, text: str) -> None:
    plugins.write("empty", text.replace("PACKAGE", plugins.name))
    with pytest.raises(UsageError, match=rf"Expected {plugins.name}\.empty to register a part called 'empty'"):
        plugins.registry.get("empty")


def test_two_components_of_one_name_are_refused(plugins: Plugins) -> None:
    plugins.add("good")
    plugins.add("thief", "good")
    with pytest.raises(UsageError, match=r"Expected the part 'good' to come from plugins_\d+\.good") as error:
        plugins.registry.get("thief")
    assert f"{plugins.name}.thief" in str(error.value)
    assert plugins.registry.origin("good") == f"{plugins.name}.good", "whichever module is loaded first"
    plugins.registry.register("free")(int)
    with pytest.raises(UsageError, match="already taken by builtins"):
        plugins.registry.register("free")(plugins.registry.get("good"))


def test_loading_a_module_twice_is_no_collision(plugins: Plugins) -> None:
    plugins.add("good")
    first = plugins.registry.get("good")
    del sys.modules[f"{plugins.name}.good"]
    import_module(f"{plugins.name}.good")
    assert plugins.registry.get("good") is not first
    assert plugins.registry.origin("good") == f"{plugins.name}.good"


def test_an_entry_point_of_another_distribution_is_found(plugins: Plugins) -> None:
    plugins.add("good")
    plugins.add_distribution({"theirs": "kdstore.schema:Scalar"})
    assert plugins.registry.names() == ["good", "theirs"]
    assert plugins.registry.get("theirs").__name__ == "Scalar"  # type: ignore[attr-defined]
    assert plugins.registry.origin("theirs") == "kdstore.schema"


def test_an_entry_point_that_takes_the_name_of_a_file_is_refused(plugins: Plugins) -> None:
    plugins.add("good")
    plugins.add_distribution({"good": "kdstore.schema:Scalar"})
    with pytest.raises(UsageError, match=r"Got two: plugins_\d+\.good and the entry point kdstore\.schema:Scalar"):
        plugins.registry.get("good")
    assert plugins.registry.names() == ["good"]


def test_origin_of_an_unknown_name_is_refused(plugins: Plugins) -> None:
    with pytest.raises(UnknownNameError):
        plugins.registry.origin("nothing")


@pytest.mark.parametrize("name", TASKS.names())
def test_what_a_task_asks_for_by_default_exists(name: str) -> None:
    task = TASKS.get(name)
    assert set(task.losses) <= set(import_module("kdtrain.losses").LOSSES.names())
    assert set(task.metrics) <= set(import_module("kdeval.metrics").METRICS.names())


def registries() -> list[tuple[Registry[object], str]]:
    """Every component of every registry of the project."""
    found: list[Registry[object]] = [CODECS, SOURCES, TASKS]  # type: ignore[list-item]
    for module, name in (("kdtrain.losses", "LOSSES"), ("kdeval.metrics", "METRICS")):
        found.append(getattr(import_module(module), name))
    return [(registry, name) for registry in found for name in registry.names()]


@pytest.mark.parametrize(
    ("registry", "name"), registries(), ids=lambda value: value if isinstance(value, str) else value.kind
)
def test_every_component_comes_from_the_file_of_its_name(registry: Registry[object], name: str) -> None:
    component = registry.get(name)
    assert registry.origin(name) == f"{registry.package}.{name}"
    assert getattr(component, "name", name) == name
    assert component.__doc__, "its docstring is its manual"
