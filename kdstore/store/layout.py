"""Where things lie in a store."""

import re
from pathlib import Path

PARTS = "parts"
PART_JSON = "part.json"
TOKENIZER = "tokenizer"
SHARED = "shared"
IDS = "ids"
QUARANTINE = ".quarantine"
BUILD = ".build"


def part_path(root: Path, index: int) -> Path:
    """Directory of the part with this index."""
    return root / PARTS / f"{index:05d}"


def build_path(root: Path) -> Path:
    """What a build or an append keeps for itself until it is finished."""
    return root / BUILD


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


def ids_path(root: Path, segment: int) -> Path:
    """The ids of the rows of one segment."""
    return root / IDS / f"{segment:05d}.jsonl.gz"


def segment_of(path: str) -> int | None:
    """Whose ids a file of a store holds; None for any other file."""
    found = re.fullmatch(rf"{IDS}/(\d{{5,}})\.jsonl\.gz", path)
    return int(found[1]) if found else None


def prepared_path(root: Path) -> Path:
    """Says that parts can be written: settings, shared arrays and tokenizer are in place."""
    return root / BUILD / "prepared"


def failures_path(root: Path) -> Path:
    """Where tasks of a build say why they failed."""
    return root / BUILD / "failed"


def launch_path(root: Path) -> Path:
    """How the tasks of a build were launched."""
    return root / BUILD / "launch.json"
