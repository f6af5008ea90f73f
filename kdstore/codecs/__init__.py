"""How a teacher's output is kept: one codec per file, found by its file name.

A codec turns the teacher's output into small arrays and back. Some keep arrays for the whole store too, such as a
basis, which are fitted once on a sample. Decoding gives a `DenseSignal`, a full row of logits for every position; a
`SparseSignal`, some candidates with their log-probabilities and the mass of all others; or a `SampledSignal`.
Losses know only these forms.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from kdstore.codecs._logits import check_finite
from kdstore.codecs._sample import NEVER, Head, Output, Sample
from kdstore.codecs._signal import DenseSignal, SampledSignal, Signal, SparseSignal
from kdstore.errors import CapabilityError, CorruptStoreError, InputError
from kdstore.registry import Registry
from kdstore.schema import KEPT, Arrays, SignalArray
from kdstore.validation import parse

__all__ = [
    "CODECS", "Codec", "CodecConfig", "DenseSignal", "Head", "Output", "Sample", "SampledSignal", "Signal",
    "SparseSignal", "build_codec", "fit_codec",
]  # fmt: skip

MASK = "mask"
_SWITCHED_OFF, _PADDING = 1, 2


class CodecConfig(BaseModel):
    """Base of every codec's settings; kept in the manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")


C = TypeVar("C", bound=CodecConfig)


class Codec(ABC, Generic[C]):
    """Base of the codecs.

    Parameters
    ----------
    config
        The codec's own settings.
    vocab_size
        Number of ids that the teacher scores.
    shared
        What `fit` gave: arrays for the whole store; and ``mask`` uint8 [V], not 0 for ids that the teacher never
        emits, where there are any: 2 for padding of the vocabulary, 1 for ids that were switched off.

    Raises
    ------
    CorruptStoreError
        The shared arrays are not those that such a codec has.
    """

    name: ClassVar[str]
    Config: ClassVar[type[CodecConfig]]
    divergences: ClassVar[tuple[str, ...] | None] = None
    """Losses that a decoded signal can serve; None: any, because it is a distribution."""
    shared_names: ClassVar[tuple[str, ...]] = ()
    """Names that `fit`'s arrays may have."""
    fitted: ClassVar[bool] = False
    """Whether `fit` gives arrays, so that it matters what it is fitted on."""
    ladder: ClassVar[tuple[Mapping[str, Any], ...]] = ({},)
    """Settings to try for a target, from few bytes to many."""

    def __init__(self, config: C, vocab_size: int, shared: Mapping[str, Tensor]) -> None:
        self.config = config
        self.vocab_size = vocab_size
        self.shared = dict(shared)
        self._derived: dict[tuple[str, torch.device], Tensor] = {}
        self._check_shared()
        self._switches_off = MASK in shared and bool((shared[MASK] == _SWITCHED_OFF).any())
        self.allowed = vocab_size - int((shared[MASK] > 0).sum()) if MASK in shared else vocab_size

    @classmethod
    def fit(cls, config: C, sample: Sample) -> dict[str, Tensor]:
        """The arrays to keep once for the whole store; none by default.

        Parameters
        ----------
        config
            The codec's settings.
        sample
            The teacher's output at positions of the store's own mixture.

        Raises
        ------
        CapabilityError
            The codec needs what the sample does not have, such as hidden states.
        """
        return {}

    def shared_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes that `fit`'s arrays must have, by name; none by default."""
        return {}

    @abstractmethod
    def arrays(self) -> tuple[SignalArray, ...]:
        """The arrays kept for each label token."""

    def encode(self, output: Output) -> dict[str, Tensor]:
        """Turn the teacher's output at L positions into the codec's arrays, on the same device.

        Arrays are [L, ...]; ragged ones [X, ...] with ``kept/lengths`` [L] beside them.

        Raises
        ------
        InputError
            The width is not the vocabulary's, or a logit is not finite; its position and id are named.
        """
        logits_LV = output.logits_LV.float()
        if logits_LV.shape[1] != self.vocab_size:
            raise InputError(f"Expected logits over {self.vocab_size} ids. Got {logits_LV.shape[1]}.")
        if (mask_V := self.mask_on(logits_LV.device)) is not None:
            self._check_masked(logits_LV, mask_V)
            logits_LV = logits_LV.masked_fill(mask_V, -torch.inf)
        check_finite(logits_LV, mask_V)
        return self._encode(Output(logits_LV, output.hidden_LD))

    @abstractmethod
    def _encode(self, output: Output) -> dict[str, Tensor]:
        """Encode checked output; logits are float32, -inf where masked and finite elsewhere."""

    @abstractmethod
    def decode(self, arrays: Mapping[str, Tensor], temperature: float) -> Signal:
        """Turn arrays, as `encode` gives them, into a signal at ``temperature`` on the same device.

        Raises
        ------
        CapabilityError
            The codec keeps nothing that can serve this temperature.
        """

    def pieces(self, arrays: Mapping[str, Tensor], sizes: Sequence[int]) -> Iterator[dict[str, Tensor]]:
        """Arrays, as `encode` gives them, cut into those of ``sizes`` positions each, one piece after the other."""
        kept = [0] * len(sizes)
        if (lengths := f"{KEPT}/lengths") in arrays:
            kept = [int(piece_L.sum()) for piece_L in torch.split(arrays[lengths].long(), list(sizes))]
        ragged = {array.name for array in self.arrays() if array.most}
        split = {
            name: torch.split(values, kept if name in ragged else list(sizes)) for name, values in arrays.items()
        }
        for index in range(len(sizes)):
            yield {name: pieces[index] for name, pieces in split.items()}

    @property
    def temperatures(self) -> tuple[float, ...] | None:
        """The temperatures that can be served; None: any."""
        return None

    def check_temperature(self, temperature: float) -> None:
        """Raise `CapabilityError` when `decode` would refuse ``temperature``; any is served by default."""

    def check_divergence(self, name: str) -> None:
        """Raise `CapabilityError` when the loss component called ``name`` cannot be computed from this signal."""
        if self.divergences is not None and name not in self.divergences:
            raise CapabilityError(
                f"Expected a loss that the codec {self.name!r} can serve ({', '.join(self.divergences)}). "
                f"Got {name!r}. Use one of these, or build the store with --codec lowrank."
            )

    @property
    def shared_bytes(self) -> int:
        """Bytes of the arrays kept once for the whole store."""
        return sum(values.nbytes for values in self.shared.values())

    @abstractmethod
    def summary(self) -> str:
        """What is kept, in one line for people."""

    def shared_on(self, name: str, device: torch.device) -> Tensor:
        """The shared array called ``name`` on ``device``."""
        return self.derived(name, device, lambda: self.shared[name].to(device))

    def derived(self, name: str, device: torch.device, make: Callable[[], Tensor]) -> Tensor:
        """What ``make`` gives, made once per device: shared arrays in the form that `decode` and `encode` use."""
        if (name, device) not in self._derived:
            self._derived[name, device] = make()
        return self._derived[name, device]

    def mask_on(self, device: torch.device) -> Tensor | None:
        """Ids never emitted, bool [V]; None where there are none."""
        if MASK not in self.shared:
            return None
        return self.derived("mask as bool", device, lambda: self.shared_on(MASK, device).bool())

    def masked(self, logits_LV: Tensor) -> Tensor:
        """Decoded logits [L, V] with -inf for ids never emitted."""
        mask_V = self.mask_on(logits_LV.device)
        return logits_LV if mask_V is None else logits_LV.masked_fill(mask_V, -torch.inf)

    def _check_masked(self, logits_LV: Tensor, mask_V: Tensor) -> None:
        """Refuse an id that the sample has never seen emitted, and this output does emit."""
        if not self._switches_off:
            return
        off_V = self.shared_on(MASK, logits_LV.device) == _SWITCHED_OFF
        top_L1 = logits_LV.masked_fill(mask_V, -torch.inf).amax(-1, keepdim=True)
        emitted_LX = logits_LV[:, off_V] > top_L1 - NEVER
        if emitted_LX.any():
            position, index = emitted_LX.nonzero()[0].tolist()
            token = int(off_V.nonzero()[index])
            raise InputError(
                f"Expected id {token} never to be emitted, as in the sample that settled the codec. Got a logit of "
                f"{logits_LV[position, token].item():.1f} at label position {position}. Take a larger sample: "
                "--fit-positions."
            )

    def _check_shared(self) -> None:
        found = {name: tuple(values.shape) for name, values in self.shared.items()}
        expected = self.shared_shapes() | ({MASK: (self.vocab_size,)} if MASK in found else {})
        if found != expected:
            raise CorruptStoreError(
                f"Expected the shared arrays {expected} of the codec {self.name!r}. Got {found}. "
                "Build the store again."
            )


CODECS: Registry[type[Codec[Any]]] = Registry("codec", "kdstore.codecs")


def build_codec(name: str, config: Mapping[str, Any], vocab_size: int, shared: Arrays) -> Codec[Any]:
    """The codec called ``name`` with validated settings, and the arrays that its fit gave, as a store keeps them.

    Raises
    ------
    UnknownNameError
        No such codec.
    UsageError
        A setting is unknown or out of range.
    CorruptStoreError
        The shared arrays are not this codec's.
    """
    kind = CODECS.get(name)
    settings = parse(kind.Config, config, f"settings of codec {name!r}")
    return kind(settings, vocab_size, {key: torch.from_numpy(values) for key, values in shared.items()})


def fit_codec(name: str, config: Mapping[str, Any], sample: Sample) -> Codec[Any]:
    """The codec called ``name``, fitted on a sample of the teacher's output.

    Raises
    ------
    UnknownNameError, UsageError
        As for `build_codec`.
    InputError
        The sample holds a logit that is not finite.
    CapabilityError
        The codec needs what the sample does not have.
    """
    kind = CODECS.get(name)
    settings = parse(kind.Config, config, f"settings of codec {name!r}")
    mask_V = sample.never_emitted  # first: it refuses numbers that nothing can be fitted to
    shared = kind.fit(settings, sample)
    if mask_V.any():
        kinds_V = mask_V.to(torch.uint8) * _SWITCHED_OFF
        if sample.padded_from is not None:
            kinds_V[sample.padded_from :] = _PADDING
        shared[MASK] = kinds_V
    return kind(settings, sample.vocab_size, {key: values.cpu() for key, values in shared.items()})
