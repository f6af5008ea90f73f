"""The validator ``java``: the text metrics of an evaluation, during training."""

from collections.abc import Sequence
from typing import Final

from kdeval.metrics import Sample
from kdeval.tally import Tally, make_metrics
from kdstore.errors import EmptyInputError, MismatchError
from kdstore.tasks import TASKS
from kdtrain.validators import Validator

_CHEAP: Final = ("exact_match", "f1", "bleu")


class JavaValidator(Validator):
    """Java assertions by the metrics of `kdeval.metrics`, and so by the numbers of ``kdeval run``.

    exact_match, f1 and bleu; enhanced, every metric of texts that the task ``java_assertion`` has. Precision, recall
    and other parts of a metric are left to an evaluation.
    """

    def __init__(self, enhanced: bool) -> None:
        super().__init__(enhanced)
        wanted = TASKS.get("java_assertion").metrics if enhanced else _CHEAP
        self._metrics = [metric for metric in make_metrics(wanted) if metric.inputs == "text"]

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
        return {name: result.value for name, result in tally.results().items()}
