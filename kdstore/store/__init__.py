"""The store: immutable Zarr parts, listed by one manifest that is replaced atomically."""
