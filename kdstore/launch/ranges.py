"""Task numbers in SLURM's notation: ``0,3,7-9``."""

from collections.abc import Iterable
from itertools import groupby


def compress(numbers: Iterable[int]) -> str:
    """Numbers in ascending order, runs of them as ``first-last``.

    >>> compress([9, 3, 8, 7])
    '3,7-9'
    """
    # Within a run, number and place grow together.
    runs = groupby(enumerate(sorted(set(numbers))), key=lambda item: item[1] - item[0])
    return ",".join(_text([number for _, number in run]) for _, run in runs)


def _text(run: list[int]) -> str:
    return str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}"
