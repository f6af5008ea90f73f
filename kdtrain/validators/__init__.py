"""What scores texts that a student writes during training.

Training knows no metric. Another distribution, or another package of this one, brings a validator as an entry point
of the group ``kdtrain.validators``, whose name is the validator's and whose value is the class. A run names it:
``validation.validator`` in its recipe, or ``--validator``.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from kdstore.registry import Registry


class Validator(ABC):
    """Scores what a student wrote against what it should have written.

    Parameters
    ----------
    enhanced
        Use all metrics, not only those that cost next to nothing.
    """

    def __init__(self, enhanced: bool) -> None:
        self.enhanced = enhanced

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """The names of its metrics, in order: the columns of a log, known before the first text."""

    @abstractmethod
    def score(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        """The value of each of `names` over all texts, in that order.

        ``references[i]`` belongs to ``predictions[i]``. It ends, whatever the predictions are: a model made them up.

        Raises
        ------
        EmptyInputError
            There is no text.
        """


VALIDATORS: Registry[type[Validator]] = Registry("validator", "kdtrain.validators")
