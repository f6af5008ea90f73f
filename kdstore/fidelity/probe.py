"""Rows on which fidelity is measured: what the models read, and what the teacher made of it."""

from collections.abc import Iterator
from dataclasses import dataclass

from kdstore.codecs import Sample


@dataclass(frozen=True)
class Probe:
    """Whole rows with the teacher's output at their label positions.

    ``inputs`` and ``labels`` hold the token ids of N rows; ``sample`` has one position per label token, in order.
    """

    inputs: list[list[int]]
    labels: list[list[int]]
    sample: Sample

    @property
    def positions(self) -> int:
        """Label tokens of all rows."""
        return self.sample.positions

    def rows(self, start: int, stop: int) -> "Probe":
        """Rows [start, stop)."""
        first = sum(map(len, self.labels[:start]))
        length = sum(map(len, self.labels[start:stop]))
        return Probe(self.inputs[start:stop], self.labels[start:stop], self.sample.slice(first, first + length))

    def head(self, positions: int) -> tuple["Probe", "Probe"]:
        """Rows from the start with at least ``positions`` label tokens, and all rows after them."""
        count = row = 0
        while row < len(self.labels) and count < positions:
            count += len(self.labels[row])
            row += 1
        return self.rows(0, row), self.rows(row, len(self.labels))

    def batches(self, positions: int) -> Iterator["Probe"]:
        """Consecutive rows in batches of at least ``positions`` label tokens; a smaller rest at the end is not used.

        A probe smaller than that is one batch.
        """
        rest = self
        while rest.positions >= positions:
            batch, rest = rest.head(positions)
            yield batch
        if rest is self and self.positions:
            yield self
