"""Rows, codecs and the store: turn a teacher's outputs into small, verifiable, streamable shards."""
