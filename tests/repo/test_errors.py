"""The exception tree, its drawing, and docs/errors.md say the same."""

import re
from pathlib import Path

from kdstore import errors
from kdstore.errors import KDError

DOCS = (Path(__file__).parents[2] / "docs/errors.md").read_text(encoding="utf-8")


def tree(kind: type[KDError] = KDError, depth: int = 0) -> list[tuple[int, type[KDError]]]:
    """Every class of the module with its depth below `KDError`, in the order of the file."""
    below = [sub for sub in kind.__subclasses__() if sub.__module__ == errors.__name__]
    return [(depth, kind), *(entry for sub in below for entry in tree(sub, depth + 1))]


CLASSES = [kind for _, kind in tree()]


def drawn(text: str) -> list[tuple[int, str]]:
    """Depth and name of every line of a drawn tree."""
    lines = re.findall(r"^ *((?:[│├└─] *)*)(\w*Error)\b", text, re.MULTILINE)
    return [((len(branch) + 3) // 4, name) for branch, name in lines]


def test_the_module_defines_nothing_outside_the_tree() -> None:
    defined = [value for value in vars(errors).values() if isinstance(value, type) and value is not KDError]
    assert set(defined) == set(CLASSES) - {KDError}


def test_the_drawing_in_the_module_is_the_tree() -> None:
    assert errors.__doc__
    lines = re.findall(r"^[ │├└─]*(\w+Error) +(\d+)   (\S.*)$", errors.__doc__, re.MULTILINE)
    assert [(name, int(code)) for name, code, _ in lines] == [(kind.__name__, kind.exit_code) for kind in CLASSES]
    art = errors.__doc__.split("::\n", 1)[1].split("\n\nAn exception", 1)[0]
    assert drawn(art) == [(depth, kind.__name__) for depth, kind in tree()]


def test_the_drawing_in_the_docs_is_the_tree() -> None:
    art = DOCS.split("```\n", 1)[1].split("```", 1)[0]
    assert drawn(art) == [(depth, kind.__name__) for depth, kind in tree()]


def test_a_wrong_drawing_is_noticed() -> None:
    assert drawn("KDError\n├── AError\n│   └── BError\n└── CError\n") == [
        (0, "KDError"), (1, "AError"), (2, "BError"), (1, "CError"),
    ]  # fmt: skip
    assert drawn("KDError\n├── AError\n├── BError\n") != drawn("KDError\n├── AError\n│   └── BError\n")


def test_the_table_in_the_docs_lists_every_class() -> None:
    table = re.findall(r"^\| `(\w+)` \| `([\w-]+)` \| (\d+) \| \S.* \| \S.* \|$", DOCS, re.MULTILINE)
    expected = [(kind.__name__, kind.kind, str(kind.exit_code)) for kind in CLASSES]
    assert table == expected


def test_kinds_are_unique_and_every_class_says_its_own() -> None:
    kinds = [vars(kind)["kind"] for kind in CLASSES]
    assert len(set(kinds)) == len(kinds)


def test_exit_codes_are_stable_values_that_no_signal_uses() -> None:
    assert {kind.__name__: kind.exit_code for kind in CLASSES} == {
        "KDError": 1, "UsageError": 2, "UnknownNameError": 2, "InputError": 3, "RowError": 3, "EmptyInputError": 3,
        "MismatchError": 4, "StoreError": 5, "CorruptStoreError": 6, "CapabilityError": 7, "ModelError": 8,
        "TrainingError": 9,
        "RequeueError": 75,
    }  # fmt: skip


def test_every_class_has_a_docstring_of_its_own() -> None:
    assert all(vars(kind)["__doc__"] for kind in CLASSES)
