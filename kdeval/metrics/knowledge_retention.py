"""The Knowledge Retention Score."""

from typing import ClassVar

import numpy as np

from kdeval.metrics import METRICS, TEACHER, Composite, Direction, Values


@METRICS.register("knowledge_retention")
class KnowledgeRetention(Composite):
    """0.6 output_agreement + 0.4 performance_ratio: what of its teacher a student has kept.

    performance_ratio = min(1, code_quality of the student / that of the teacher), 1 where the teacher's is 0: there
    is nothing to keep. A student better than its teacher gets no more than one that is as good, and loses by every
    output in which it differs, even where it is right and the teacher wrong. Undefined where a component is. Formula
    and weights are those of the Java distillation project that came before this one.

    >>> KnowledgeRetention().of_values({"output_agreement": np.array([0.5]), "code_quality": np.array([0.3]),
    ...                                 "teacher.code_quality": np.array([0.4])})  # 0.6 * 0.5 + 0.4 * 0.75
    {'knowledge_retention': array([0.6]), 'performance_ratio': array([0.75])}
    """

    name = "knowledge_retention"
    title = "Knowledge Retention Score"
    unit = "fraction"
    range = (0.0, 1.0)
    direction: ClassVar[Direction] = "higher"
    good_at = 0.6
    parts = ("performance_ratio",)
    components = ("output_agreement", "code_quality", f"{TEACHER}code_quality")
    aggregation = "from values of the set"

    def of_values(self, values: Values) -> Values:
        """Score and ratio, [B] each."""
        agreement_B, student_B, teacher_B = (values[name] for name in self.components)
        kept_B = np.minimum(student_B, teacher_B)
        # Where the teacher has 0, kept_B is 0 too, or NaN if the student's value is.
        ratio_B = np.divide(kept_B, teacher_B, out=kept_B + 1, where=teacher_B != 0)
        return {self.name: 0.6 * agreement_B + 0.4 * ratio_B, "performance_ratio": ratio_B}
