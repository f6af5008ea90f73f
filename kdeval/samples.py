"""What metrics look at: one row with what a model made of it."""

from dataclasses import dataclass
from typing import Final, Literal, get_args

Group = Literal["text", "tokens", "teacher_text", "teacher_signal", "labels", "ranking"]
GROUPS: Final[tuple[Group, ...]] = get_args(Group)
_LARGEST = 1e9  # nats that a token can have: sums stay finite
_ROUNDED = 1e-6


@dataclass(frozen=True, slots=True)
class TokenScores:
    """A pass over the reference, every label token predicted from the true ones before it (teacher-forced).

    Lists have one entry for each label token; the end token is one. What compares with a teacher is None where
    there is no signal of one.

    Attributes
    ----------
    nll
        - log q(y) at T = 1, nats.
    confidence
        Probability of the likeliest token at T = 1.
    correct
        Whether the likeliest token is the label.
    critical
        Positions of the tokens that are part of a critical word (see `kdtrain.tokens`), by its category.
    teacher_kl
        KL(p_T || q_T) from the teacher p, nats, at the temperature of the evaluation.
    teacher_agrees
        Whether the teacher's likeliest token is the model's.
    temperature
        That of ``teacher_kl``.
    """

    nll: list[float]
    confidence: list[float]
    correct: list[bool]
    critical: dict[str, list[int]]
    teacher_kl: list[float] | None = None
    teacher_agrees: list[bool] | None = None
    temperature: float | None = None

    def __post_init__(self) -> None:
        """Raise `ValueError` where the lists cannot be: they may come from a file."""
        given = (self.confidence, self.correct, self.teacher_kl, self.teacher_agrees)
        if any(len(values) != len(self.nll) for values in given if values is not None):
            raise ValueError("expected as many entries in each list of tokens")
        if any(not 0 <= position < len(self.nll) for found in self.critical.values() for position in found):
            raise ValueError("expected positions of tokens under critical")
        if not all(0 <= share <= 1 + _ROUNDED for share in self.confidence):
            raise ValueError("expected probabilities under confidence")
        for nats in (self.nll, self.teacher_kl or []):
            if not all(-_ROUNDED <= value <= _LARGEST for value in nats):
                raise ValueError("expected nats from 0 to 1e9 under nll and teacher_kl")
        if (self.temperature is None) != (self.teacher_kl is None):
            raise ValueError("expected the temperature of teacher_kl, and none without it")

    def __len__(self) -> int:
        """Number of label tokens."""
        return len(self.nll)


@dataclass(frozen=True, slots=True)
class LabelScores:
    """A multi-label classification: the probability of each label, and the names of those that are true."""

    scores: dict[str, float]
    gold: list[str]


@dataclass(frozen=True, slots=True)
class Ranking:
    """The candidates of one query: the model's score and the true relevance (0: none) of each."""

    scores: list[float]
    relevance: list[float]


@dataclass(frozen=True, slots=True)
class Sample:
    """One row. Only ``id`` is always there; which other fields are, depends on what is predicted.

    ``teacher_prediction`` and ``teacher_tokens`` are what the student's teacher made of the row.
    """

    id: str
    prompt: str = ""
    reference: str = ""
    prediction: str = ""
    teacher_prediction: str | None = None
    repo: str = ""
    path: str = ""
    tokens: TokenScores | None = None
    teacher_tokens: TokenScores | None = None
    labels: LabelScores | None = None
    ranking: Ranking | None = None

    def has(self, group: Group) -> bool:
        """Whether the sample has what a metric of this group looks at."""
        match group:
            case "text":
                return self.labels is None and self.ranking is None
            case "teacher_text":
                return self.teacher_prediction is not None
            case "tokens":
                return self.tokens is not None
            case "teacher_signal":
                return self.tokens is not None and self.tokens.teacher_kl is not None
            case "labels":
                return self.labels is not None
            case "ranking":
                return self.ranking is not None
