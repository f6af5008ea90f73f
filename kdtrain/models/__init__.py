"""Models that can be trained, and the tokenizers that go with them."""
