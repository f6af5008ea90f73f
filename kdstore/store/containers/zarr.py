"""A part as a Zarr v3 group: one array per array of the schema, one shard, so one file, per array."""

from collections.abc import Mapping
from pathlib import Path

from kdstore.schema import Arrays, ArraySpec, Block, Schema
from kdstore.store.containers import CONTAINERS, Container
from kdstore.store.files import check_files
from kdstore.store.manifest import PartRecord
from kdstore.store.shard import Shard
from kdstore.store.zarr_arrays import array_files, open_array, shard_file, write_arrays


@CONTAINERS.register("zarr")
class ZarrPart(Container):
    """Arrays in their own files: a field is read without touching the others."""

    def __init__(self, directory: Path, schema: Schema, record: PartRecord) -> None:
        super().__init__(directory, schema, record)
        metadata = {path: file for path, file in record.files.items() if path.endswith("zarr.json")}
        check_files(directory, metadata, checksums=True)
        self._sums = record.chunks
        self._arrays: dict[str, Shard] = {}

    @staticmethod
    def check(schema: Schema) -> None:
        """See `Container.check`; any can be kept."""

    @staticmethod
    def write(directory: Path, index: int, block: Block, offsets: Mapping[str, list[int]]) -> None:
        """See `Container.write`."""
        write_arrays(directory, block, offsets)

    @staticmethod
    def chunks(directory: Path, schema: Schema, offsets: Mapping[str, list[int]]) -> dict[str, bytes]:
        """See `Container.chunks`."""
        specs, extents = schema.specs().values(), {axis: starts[-1] for axis, starts in offsets.items()}
        arrays = [(spec, extents[spec.axis]) for spec in specs if extents[spec.axis]]
        return {shard_file(spec): open_array(directory, spec, extent).sums() for spec, extent in arrays}

    @staticmethod
    def files(schema: Schema, record: PartRecord) -> set[str]:
        """A ``zarr.json`` for the part, every group and every array, and the shards of arrays that are not empty."""
        specs = schema.specs().values()
        groups = {"/".join(s.path.split("/")[:depth]) for s in specs for depth in range(s.path.count("/") + 1)}
        found = {f"{group}/zarr.json".removeprefix("/") for group in groups}
        return found | {path for spec in specs for path in array_files(spec, record.extent(spec.axis))}

    @staticmethod
    def stored_bytes(record: PartRecord, schema: Schema) -> dict[str, int]:
        """Bytes of the files below each field's name, metadata included."""
        return {field.name: record.bytes_under(field.name) for field in schema.fields}

    def read(self, wanted: Mapping[str, ArraySpec], first: int, stop: int, out: Arrays | None = None) -> Arrays:
        """See `Container.read`; chunks outside the blocks are not read."""
        found = {}
        for path, spec in wanted.items():
            if path not in self._arrays:
                sums = self._sums.get(shard_file(spec), b"")
                self._arrays[path] = open_array(self.directory, spec, self.offsets[spec.axis][-1], sums)
            starts = self.offsets[spec.axis]
            found[path] = self._arrays[path].read(starts[first], starts[stop], out[path] if out else None)
        return found
