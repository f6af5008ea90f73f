"""Predictions of a file, whoever made them: what every line must have is what the first one has."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from kdeval.results import Prediction, read_predictions
from kdeval.samples import GROUPS, Group, Sample
from kdstore.errors import EmptyInputError, InputError


def first_sample(path: Path) -> Prediction:
    """The first line, which says what the file is about.

    Raises
    ------
    InputError
        The file is missing, the line is no prediction, or lacks its texts.
    EmptyInputError
        There is no line.
    """
    first = next(read_predictions(path), None)
    if first is None:
        raise EmptyInputError(f"Expected at least one prediction in {path}. Got an empty file.")
    if first.has("text"):
        with path.open("rb") as lines:
            given = json.loads(lines.readline())
        for name in ("reference", "prediction"):
            if name not in given:
                raise InputError(f"Expected {name!r} in the lines of {path}. Got none in the first. Add it.")
    return first


def alike(path: Path, groups: set[Group], rows: int) -> Iterator[Sample]:
    """The first ``rows`` samples.

    Raises
    ------
    InputError
        One has other things than ``groups``: metrics would be of fewer rows than they say.
    """
    for sample in islice(read_predictions(path), rows):
        if (found := groups_of(sample)) != groups:
            raise InputError(
                f"Expected {', '.join(sorted(groups))} in every line of {path}, as in the first. "
                f"Got {', '.join(sorted(found))} in the row {sample.id!r}. Correct it, or make two files."
            )
        yield sample


def groups_of(sample: Sample) -> set[Group]:
    """What metrics can look at."""
    return {group for group in GROUPS if sample.has(group)}
