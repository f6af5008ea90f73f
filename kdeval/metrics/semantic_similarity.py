"""Likeness of meaning, as a sentence-transformer sees it.

Shape letters as in `kdeval.metrics`, and D features of an embedding.
"""

from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from kdeval.metrics import METRICS, Context, Direction, Floats, SampleMean
from kdeval.samples import Sample
from kdstore.errors import ModelError, first_line

if TYPE_CHECKING:
    from kdstore.encode.embed import Encoder

Embed = Callable[[Sequence[str]], NDArray[np.float32]]


@METRICS.register("semantic_similarity")
class SemanticSimilarity(SampleMean):
    r"""Cosine of the embeddings of prediction and reference by a sentence-transformer (Reimers and Gurevych 2019).

    .. math:: \cos(a, b) = \frac{a \cdot b}{\lVert a \rVert \, \lVert b \rVert}

    White space around a text does not count. Both empty: 1. One of them empty: 0. Equal texts: exactly 1. The model
    (arXiv:1908.10084) reads as many tokens as its own files say and drops the rest. What it learned from is prose
    rather than Java, so that texts which share their names are near each other even where one asserts the contrary:
    ``assertTrue(a.isEmpty());`` and ``assertFalse(a.isEmpty());`` have 0.91 with all-MiniLM-L6-v2. Values of
    different models do not compare. Runs on the CPU.

    >>> def embed(texts):
    ...     return np.array([[3.0, 4.0] if text == "a" else [4.0, 3.0] for text in texts], np.float32)
    >>> similarities([("a", "b"), (" a", "a"), ("", "a")], embed).round(6).tolist()  # 24 / (5 * 5)
    [0.96, 1.0, 0.0]
    """

    name = "semantic_similarity"
    title = "Semantic similarity"
    unit = "cosine"
    range = (-1.0, 1.0)
    direction: ClassVar[Direction] = "higher"
    good_at = 0.4

    def __init__(self, model: str = Context.embedding_model) -> None:
        self._model = model

    @classmethod
    def create(cls, context: Context) -> Self:
        """The metric with the embedding model of the evaluation."""
        return cls(context.embedding_model)

    def prepare(self) -> None:
        """Load the embedding model, once per process.

        Raises
        ------
        ModelError
            It cannot be loaded.
        """
        _load(self._model)

    @property
    def implementation(self) -> str:
        """Version of the library; name of the model, and the SHA-256 of its weights in 12 digits."""
        library = f"sentence-transformers {version('sentence-transformers')}"
        return f"{library}, {Path(self._model).name} {_load(self._model).fingerprint[:12]}"

    def values(self, sample: Sample) -> tuple[float]:
        """The cosine of one sample."""
        return (float(self.measure([sample])[0, 0]),)

    def measure(self, samples: Sequence[Sample]) -> Floats:
        """The cosine of each sample and a 1, float64 [N, 2].

        Raises
        ------
        ModelError
            The embedding model cannot be loaded, or gives a text no direction.
        """
        pairs = [(sample.prediction, sample.reference) for sample in samples]
        found_N = similarities(pairs, _load(self._model).embed)
        if np.isnan(found_N).any():
            raise ModelError(
                f"Expected embeddings that are finite and not all 0 from {self._model!r}. Got one that is not. "
                "Name another model with --embedding-model."
            )
        return np.stack([found_N, np.ones(len(samples))], axis=1)


def similarities(pairs: Sequence[tuple[str, str]], embed: Embed) -> Floats:
    """Cosine of the embeddings of each pair of texts, float64 [N] in [-1, 1]; what is exact is not embedded.

    ``embed`` gets every other text once. NaN where it gives a text only zeros, or what is not finite.
    """
    stripped = [(first.strip(), second.strip()) for first, second in pairs]
    found_N = np.array([float(first == second) for first, second in stripped])
    compared = {n: pair for n, pair in enumerate(stripped) if all(pair) and not found_N[n]}
    if compared:
        texts = list(dict.fromkeys(text for pair in compared.values() for text in pair))
        vectors = dict(zip(texts, embed(texts), strict=True))
        first_ND, second_ND = (
            np.stack([vectors[text] for text in side]) for side in zip(*compared.values(), strict=True)
        )
        found_N[list(compared)] = _cosines(first_ND.astype(np.float64), second_ND.astype(np.float64))
    return found_N


def _cosines(first_ND: Floats, second_ND: Floats) -> Floats:
    with np.errstate(invalid="ignore"):
        units = [rows_ND / np.linalg.norm(rows_ND, axis=1, keepdims=True) for rows_ND in (first_ND, second_ND)]
        found_N: Floats = np.clip((units[0] * units[1]).sum(1), -1, 1)
    return found_N


@cache
def _load(model: str) -> "Encoder":
    import torch

    from kdstore.encode.embed import SentenceEncoder  # takes seconds; who only combines statistics needs none of it

    try:
        return SentenceEncoder("prediction", model, torch.device("cpu"))
    except Exception as error:  # as for models: many libraries, many types
        raise ModelError(
            f"Expected a sentence-transformer at {model!r}. Got: {first_line(error)} "
            "Name a local directory with --embedding-model, or download it where there is a network."
        ) from None
