"""Where things lie in a store."""

from pathlib import Path

PARTS = "parts"
PART_JSON = "part.json"
TOKENIZER = "tokenizer"
SHARED = "shared"
BUILD = ".build"


def part_path(root: Path, index: int) -> Path:
    """Directory of the part with this index."""
    return root / PARTS / f"{index:05d}"


def head_path(root: Path) -> Path:
    """Where an unfinished build keeps its pinned settings."""
    return root / BUILD / "head.json"


def staging_path(root: Path) -> Path:
    """Where parts are written before they are renamed into place."""
    return root / BUILD / "staging"


def pending_shared_path(root: Path) -> Path:
    """Where shared arrays wait until the settings that name them are pinned."""
    return root / BUILD / SHARED


def lock_path(root: Path) -> Path:
    """The lock that one build holds at a time."""
    return root / BUILD / "lock"


def spool_path(root: Path) -> Path:
    """Where an unfinished build keeps the rows it is going to encode."""
    return root / BUILD / "spool"
