"""The validator ``java``: the text metrics of an evaluation, during training."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from kdeval.choose import choose
from kdeval.metrics import Context
from kdeval.samples import Sample
from kdeval.tally import Tally, values_of
from kdstore.errors import EmptyInputError, MismatchError
from kdtrain.validators import Validator

_CHEAP: Final = ("exact_match", "f1", "bleu")
_ENHANCED: Final = (*_CHEAP, "line_f1", "codebleu", "pans", "edit_similarity", "ast_validity")


class JavaValidator(Validator):
    """Java assertions by the metrics of `kdeval.metrics`, and so by the numbers of ``kdeval run``.

    exact_match, f1 and bleu; enhanced also line_f1, codebleu, pans, edit_similarity and ast_validity. What needs
    another model (semantic similarity) or a JDK, and the parts of a metric, are left to an evaluation.
    """

    def __init__(self, enhanced: bool) -> None:
        super().__init__(enhanced)
        self._metrics = choose(_ENHANCED if enhanced else _CHEAP, Context(), {"text"}, strict=True).metrics

    @property
    def names(self) -> tuple[str, ...]:
        """As in ``kdeval run --metrics``."""
        return tuple(metric.name for metric in self._metrics)

    def score(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        """Values over all texts.

        Raises
        ------
        EmptyInputError
            There is no text.
        MismatchError
            There are not as many references as predictions.
        TrainingError
            No process can be started in which generated Java is parsed.
        """
        if len(predictions) != len(references):
            raise MismatchError(
                f"Expected a reference for each of {len(predictions)} predictions. Got {len(references)}. "
                "Give both from the same rows."
            )
        if not predictions:
            raise EmptyInputError("Expected texts to score. Got none. Validate on at least one row.")
        tally = Tally(self._metrics)
        pairs = enumerate(zip(references, predictions, strict=True))
        tally.add([Sample(str(number), "", reference, text) for number, (reference, text) in pairs])
        values = values_of(self._metrics, tally.statistics(), np.ones((1, len(predictions))))
        return {name: float(values[name][0]) for name in self.names}
