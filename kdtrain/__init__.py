"""Streaming trainer and losses: train students from a store of teacher signals."""
