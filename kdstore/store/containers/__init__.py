"""How the arrays of a part lie in its directory, one container per file.

A container writes a block of rows into a staged directory, says which files belong there, and reads blocks back,
with checks of everything that a file says before it is acted upon.
"""

from abc import ABC, abstractmethod
from array import array
from collections.abc import Mapping
from pathlib import Path

from kdstore.registry import Registry
from kdstore.schema import Arrays, ArraySpec, Block, Schema
from kdstore.store.manifest import PartRecord, TarIndex

CONTAINERS = Registry["type[Container]"]("container", "kdstore.store.containers")


class Container(ABC):
    """The files of one part, opened for reading; existence and size of each have been checked.

    ``offsets``: by axis, where each block starts, and where the last one ends.

    Parameters
    ----------
    directory
        The part.
    schema
        Of its rows.
    record
        The checked ``part.json``.
    """

    def __init__(self, directory: Path, schema: Schema, record: PartRecord) -> None:
        # Not the record itself: parts of large stores stay open by the thousand.
        self.directory, self.schema, self.index = directory, schema, record.index
        self.offsets = {axis: array("q", starts) for axis, starts in record.block_offsets.items()}

    @staticmethod
    @abstractmethod
    def check(schema: Schema) -> None:
        """Raise `CapabilityError` where rows of this schema cannot be kept."""

    @staticmethod
    @abstractmethod
    def write(directory: Path, index: int, block: Block, offsets: Mapping[str, list[int]]) -> TarIndex | None:
        """Write ``block`` as part ``index`` into the empty ``directory``.

        ``offsets`` are those of its own blocks, by axis.

        Equal rows give equal bytes. What is returned goes into the part's record.
        """

    @staticmethod
    @abstractmethod
    def files(schema: Schema, record: PartRecord) -> set[str]:
        """Every file of a part but ``part.json``, as paths in it."""

    @staticmethod
    @abstractmethod
    def stored_bytes(record: PartRecord, schema: Schema) -> dict[str, int]:
        """Bytes on disk of each field, by name."""

    @staticmethod
    def chunks(directory: Path, schema: Schema, offsets: Mapping[str, list[int]]) -> dict[str, bytes]:
        """What `PartRecord` keeps of the chunks that `write` has made; nothing where `TarIndex` does."""
        return {}

    @abstractmethod
    def read(self, wanted: Mapping[str, ArraySpec], first: int, stop: int, out: Arrays | None = None) -> Arrays:
        """Blocks [first, stop) of the ``wanted`` arrays, by path, each of the length that the record says.

        With ``out``, they are written into its arrays, and these are returned.

        Raises
        ------
        CorruptStoreError
            What is there is not what was written.
        """
