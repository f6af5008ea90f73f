"""The Code Quality Score."""

from collections.abc import Mapping
from typing import ClassVar

from kdeval.metrics import METRICS
from kdeval.metrics._weighted import Weighted


@METRICS.register("code_quality")
class CodeQuality(Weighted):
    """Six metrics in one number, weighted as in the Java distillation project that came before this one.

    0.30 codebleu + 0.20 ast_validity + 0.20 pans + 0.15 f1 + 0.10 max(0, semantic_similarity) + 0.05 token_accuracy.
    The weights are a convention, nobody fitted them to anything. A score of 0.5 does not say which half is good: read
    the components. Undefined where a component is.

    >>> import numpy as np
    >>> half = {name: np.array([0.5]) for name in CodeQuality.components}
    >>> CodeQuality().of_values(half | {"pans": np.array([1.0])})  # 0.5 + 0.20 * 0.5
    {'code_quality': array([0.6])}
    """

    name = "code_quality"
    title = "Code Quality Score"
    good_at = 0.5
    percent: ClassVar[Mapping[str, int]] = {
        "codebleu": 30,
        "ast_validity": 20,
        "pans": 20,
        "f1": 15,
        "semantic_similarity": 10,
        "token_accuracy": 5,
    }
    components = tuple(percent)
