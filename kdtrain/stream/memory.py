"""How much memory this process may take."""

from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60  # cgroup v1 writes a number near 2^63 where there is no limit


def available_bytes(cgroup: Path = _CGROUP, membership: Path = Path("/proc/self/cgroup")) -> int:
    """Bytes that can be taken without swapping: what the machine has free, or the cgroups of the process leave.

    Parameters
    ----------
    cgroup
        Where the cgroup file systems are mounted; version 1 and 2 are known.
    membership
        The file that says which cgroups the process is in.
    """
    left = [psutil.virtual_memory().available]
    for usage, limit, statistics in _controls(cgroup, membership):
        if 0 < limit < _UNLIMITED:
            left.append(max(0, limit - usage + _cached(statistics)))
    return min(left)


def _cached(statistics: dict[str, int]) -> int:
    """Bytes of cached files, which count as used until they are needed elsewhere; with those of cgroups below."""
    kinds = ("inactive_file", "active_file")
    return sum(statistics.get(f"total_{kind}", statistics.get(kind, 0)) for kind in kinds)


def rss_bytes() -> int:
    """Resident memory of this process."""
    return int(psutil.Process().memory_info().rss)


def _controls(cgroup: Path, membership: Path) -> list[tuple[int, int, dict[str, int]]]:
    """Usage, limit and statistics of every memory cgroup above the process."""
    if not membership.is_file():
        return []  # not Linux
    found = []
    for line in membership.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = cgroup, ("memory.current", "memory.max")
        elif "memory" in controllers.split(","):
            root, names = cgroup / "memory", ("memory.usage_in_bytes", "memory.limit_in_bytes")
        else:
            continue
        leaf = root / path.strip("/")
        # A container sees its own cgroup as the root of what is mounted.
        for directory in [leaf, *leaf.parents]:
            if directory.is_relative_to(root) and all((directory / name).is_file() for name in names):
                usage, limit = ((directory / name).read_text().strip() for name in names)
                if limit != "max":
                    found.append((int(usage), int(limit), _statistics(directory / "memory.stat")))
    return found


def _statistics(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in path.read_text().splitlines()) if path.is_file() else ()
    return {name: int(value) for name, value in pairs}
