"""What becomes a batch, and where."""

from dataclasses import dataclass
from typing import Literal

from kdstore.errors import UsageError
from kdtrain.stream.order import OrderConfig
from kdtrain.stream.plan import Residency

LastBatch = Literal["uneven", "pad", "drop"]


@dataclass(frozen=True)
class LoaderConfig:
    """What becomes a batch, and where.

    Parameters
    ----------
    batch_rows
        B, rows of a batch over all ranks.
    order
        The order of rows; its ``group_blocks`` is settled for the store where it is None.
    signal
        Whether batches carry the teacher's signal.
    embeddings
        Encoders whose columns batches carry.
    max_rows
        Size of a fixed, seeded subset; None takes all rows.
    last
        What becomes of the rows that do not fill a batch: ``uneven`` makes a smaller one, spread evenly over the
        ranks, so that some may have a row less or none; ``pad`` fills it up with rows that no loss counts; ``drop``
        leaves it out. Nothing is ever repeated.
    length_grouped
        Whether rows of like length come together, within their group.
    rank, world
        Which of how many processes this is. No process group is touched.
    ram_limit
        Bytes that may be taken, at most; None: a quarter of what is available.
    residency
        ``window``: groups come and go; ``full``: the whole store stays in memory; ``auto``: that, where it fits.
    threads
        How many read; None: half of the cores.
    """

    batch_rows: int
    order: OrderConfig
    signal: bool = True
    embeddings: tuple[str, ...] = ()
    max_rows: int | None = None
    last: LastBatch = "uneven"
    length_grouped: bool = False
    rank: int = 0
    world: int = 1
    ram_limit: int | None = None
    residency: Residency = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        """Raise `UsageError` for sizes, ranks or streams that cannot be."""
        order = self.order
        optional = (order.group_blocks, order.epoch_rows, self.max_rows)
        sizes = [self.batch_rows, self.world, order.streams, *(size for size in optional if size is not None)]
        if min(sizes) <= 0 or not 0 <= self.rank < self.world:
            raise UsageError(
                f"Expected sizes above 0, and a rank from 0 to {self.world - 1}. Got {self}. Correct what is not."
            )
        for what, number in (("--streams", self.order.streams), ("processes", self.world)):
            if self.batch_rows % number:
                raise UsageError(
                    f"Expected a batch of rows that can be divided evenly by {number} {what}. Got {self.batch_rows}. "
                    "Change --batch-size."
                )
        if self.length_grouped and not self.order.shuffle:
            raise UsageError(
                "Expected rows in a random order where they are grouped by length. Got the store's own order."
            )

    @property
    def home_streams(self) -> list[int]:
        """The streams that a rank takes its rows from while none has ended."""
        streams, world = self.order.streams, self.world
        return [
            c
            for c in range(streams)
            if c * world < (self.rank + 1) * streams and self.rank * streams < (c + 1) * world
        ]
