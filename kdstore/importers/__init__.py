"""Signals that other tools have stored: one importer per format, found by its file name.

An importer works in two steps, because rows are written in another order than they are read. `Importer.example`
checks a record down to its last number and keeps of it, as text, what it says of the teacher: the example's
``capture``. `Importer.signal` decodes that capture when the row's turn has come.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from kdstore.encode.tokenizer import Tokenizer
from kdstore.errors import CapabilityError, MismatchError, UsageError
from kdstore.registry import Registry
from kdstore.schema import Example, Record
from kdstore.sources import Located, Rejected
from kdstore.store.manifest import Limits
from kdstore.tasks import Task

Logits = NDArray[np.float32]
"""Full logits at the label tokens of a row, [L, V]."""

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Candidates:
    """Some ids per label token with their log-probabilities at T = 1, and how likely the labels are.

    ``ids`` and ``log_probs`` hold L lists of equal lengths, the likeliest first. ``label_log_probs`` [L] is -inf
    where the capture does not say.
    """

    ids: list[list[int]]
    log_probs: list[list[float]]
    label_log_probs: list[float]


class CaptureSettings(BaseModel):
    """What a file does not say of its own signal, and a user must.

    ``logit_scale``: factor that gives the teacher's logits. ``logit_dtype``: of raw numbers without a type.
    ``vocab_size``: ids that the teacher scores; by default those of the tokenizer. ``temperature`` and ``tail``: at
    which T candidates were captured, and whether what they leave over is the mass of all other ids.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    logit_scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    logit_dtype: Literal["f16", "f32"] | None = None
    vocab_size: Annotated[int, Field(gt=0, le=1 << 24)] | None = None
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] | Literal["unknown"] | None = None
    tail: Literal["leftover", "unknown"] | None = None


class Importer(ABC):
    """Base of the importers.

    Parameters
    ----------
    sources
        Files or directories in the importer's format.
    settings
        What they do not say of themselves.
    tokenizer, limits
        Of the store to come.
    task
        Makes prompt and target of a record that holds texts.

    Raises
    ------
    InputError
        A source cannot be read, or is of another kind.
    UsageError
        A setting is missing, or means nothing for this format.
    CapabilityError
        The signal was captured at a temperature that no codec keeps.
    MismatchError
        The tokenizer has ids that the teacher cannot score.
    """

    name: ClassVar[str]
    sparse: ClassVar[bool]
    """Whether the format holds candidates; else full logits."""
    causal: ClassVar[bool]
    """Whether a row is one sequence of ids, of which labels are the later part; else a prompt and a target."""
    max_tokens: ClassVar[tuple[int, int]]
    """Longest input and output by default."""
    predicts: bool = False
    """Whether rows hold what the teacher itself wrote, as the text ``teacher_prediction``."""

    def __init__(
        self, sources: Sequence[Path], settings: CaptureSettings, tokenizer: Tokenizer, limits: Limits, task: Task
    ) -> None:
        self.sources = tuple(sources)
        self.settings = settings
        self.tokenizer = tokenizer
        self.limits = limits
        self.task = task
        self._check_settings()
        self.headers = self._read_headers()
        self.vocab_size = settings.vocab_size or self._declared_vocab_size()
        if self.vocab_size < len(tokenizer.backend):
            raise MismatchError(
                f"Expected a tokenizer of at most {self.vocab_size:,} ids, the capture's vocabulary. "
                f"Got {len(tokenizer.backend):,}. Use the tokenizer that the capture was made with."
            )

    @property
    def keeps_signal(self) -> bool:
        """Whether enough is known to train on the signal; else only tokens are kept."""
        return UNKNOWN not in (self.settings.temperature, self.settings.tail)

    @abstractmethod
    def read(self, path: Path) -> Iterator[Located | Rejected]:
        """The records of one source, without headers.

        Raises
        ------
        InputError
            The source cannot be read at all.
        """

    @abstractmethod
    def example(self, record: Record) -> Example:
        """A checked record as an example with its ``capture``.

        Raises
        ------
        RowError
            It lacks something, or anything in it contradicts the rest.
        """

    @abstractmethod
    def signal(self, capture: Mapping[str, Any], labels: Sequence[int]) -> Logits | Candidates:
        """What a capture says of the teacher at these label tokens: [L, V], or candidates.

        Raises
        ------
        RowError
            The capture cannot be decoded, or does not fit the labels.
        """

    def _read_headers(self) -> tuple[dict[str, Any], ...]:
        """What the sources say of themselves, once each; nothing by default."""
        return ()

    def _declared_vocab_size(self) -> int:
        """Ids that the teacher scores, as far as the sources say."""
        return len(self.tokenizer.backend)

    def _check_settings(self) -> None:
        settings = self.settings
        given = [name for name, value in settings if value != type(settings).model_fields[name].default]
        meaningless = {"temperature", "tail"} if not self.sparse else {"logit_scale", "logit_dtype"}
        for name in given:
            if name in meaningless:
                raise UsageError(
                    f"Expected no --{name.replace('_', '-')} for the format {self.name!r}, which holds "
                    f"{'candidates' if self.sparse else 'full logits'}. Got one. Leave it out."
                )
        if not self.sparse:
            return
        if settings.temperature is None or settings.tail is None:
            raise UsageError(
                f"Expected --temperature and --tail: files of the format {self.name!r} do not say at which "
                "temperature they were captured, nor whether candidates leave over the mass of all other ids. Got "
                "neither or one. Give --temperature 1 --tail leftover for raw log-probabilities, or 'unknown'."
            )
        if settings.temperature not in (1.0, UNKNOWN):
            raise CapabilityError(
                f"Expected candidates captured at temperature 1. Got {settings.temperature:g}. Capture raw "
                "log-probabilities, or import tokens only: --temperature unknown."
            )


IMPORTERS: Registry[type[Importer]] = Registry("import format", "kdstore.importers")
