"""Share of critical label tokens that the model ranks first, in all and by category."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from kdeval.metrics import METRICS, Direction, Floats, Summed, Values, ratios
from kdeval.samples import Group, Sample, TokenScores
from kdtrain.critical_words import Database

_CATEGORIES = tuple(Database.model_fields)


@METRICS.register("critical_token_accuracy")
class CriticalTokenAccuracy(Summed):
    """Critical label tokens that have the highest logit, given the true tokens before them, / critical label tokens.

    Critical are the sub-tokens of words such as ``assertEquals`` and ``!=`` (`kdtrain.tokens`); samples say which
    tokens are, by category. The parts are the same share within each category of ``critical_tokens.toml``. A token
    of words of two categories counts in both parts, and once in the whole. Teacher-forced: it says nothing of the
    text the model writes by itself. Undefined without critical tokens, a part without those of its category.

    >>> tokens = TokenScores(nll=[0.1, 2.0, 0.1, 3.0], confidence=[0.9] * 4, correct=[True, False, True, False],
    ...                      critical={"junit": [0, 1], "structure": [1, 2]})
    >>> values = CriticalTokenAccuracy().score([Sample("1", tokens=tokens)])
    >>> [round(values[name], 3) for name in ("critical_token_accuracy", "critical_junit", "critical_structure")]
    [0.667, 0.5, 0.5]
    """

    name = "critical_token_accuracy"
    title = "Critical token accuracy"
    unit = "fraction"
    range = (0.0, 1.0)
    direction: ClassVar[Direction] = "higher"
    inputs: ClassVar[Group] = "tokens"
    parts = tuple(f"critical_{category}" for category in _CATEGORIES)
    columns = tuple(f"{quantity}_{name}" for quantity in ("correct", "tokens") for name in ("any", *_CATEGORIES))
    aggregation = "mean over the critical label tokens of all samples"

    def measure(self, samples: Sequence[Sample]) -> Floats:
        """Correct tokens, then tokens; of both first all critical ones, then each category's, float64 [N, 24]."""
        return np.array([_counts(sample.tokens) for sample in samples], np.float64)

    def of_sums(self, sums_BK: Floats) -> Values:
        """Correct tokens over tokens."""
        names = (self.name, *self.parts)
        correct_BP, tokens_BP = np.split(sums_BK, 2, axis=1)
        found = (ratios((name,), correct_BP[:, [p]], tokens_BP[:, p]) for p, name in enumerate(names))
        return {name: value_B for each in found for name, value_B in each.items()}


def _counts(tokens: TokenScores | None) -> list[int]:
    if tokens is None:
        return [0] * 2 * (1 + len(_CATEGORIES))
    each = [tokens.critical.get(category, []) for category in _CATEGORIES]
    places = [set().union(*tokens.critical.values()), *each]
    return [*(sum(tokens.correct[place] for place in some) for some in places), *map(len, places)]
