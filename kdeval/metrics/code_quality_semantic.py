"""The Code Quality Score with more weight on meaning."""

from collections.abc import Mapping
from typing import ClassVar

from kdeval.metrics import METRICS
from kdeval.metrics._weighted import Weighted


@METRICS.register("code_quality_semantic")
class CodeQualitySemantic(Weighted):
    """Four metrics in one number, weighted as in the Java distillation project that came before this one.

    0.30 max(0, semantic_similarity) + 0.30 codebleu + 0.20 ast_validity + 0.20 token_accuracy. What `code_quality`
    says of its weights holds here too. Undefined where a component is.

    >>> import numpy as np
    >>> half = {name: np.array([0.5]) for name in CodeQualitySemantic.components}
    >>> CodeQualitySemantic().of_values(half | {"semantic_similarity": np.array([-0.5])})  # 0.5 - 0.30 * 0.5
    {'code_quality_semantic': array([0.35])}
    """

    name = "code_quality_semantic"
    title = "Code Quality Score (semantic weighting)"
    good_at = 0.5
    percent: ClassVar[Mapping[str, int]] = {
        "semantic_similarity": 30,
        "codebleu": 30,
        "ast_validity": 20,
        "token_accuracy": 20,
    }
    components = tuple(percent)
