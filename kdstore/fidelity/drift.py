"""Does what was fitted on the first rows of a store still fit its later parts?"""

from typing import Any, Final

from kdstore.codecs import Codec, DenseSignal, Output, SampledSignal
from kdstore.fidelity.divergence import LOG_ZERO, aligned_log_probs, relative_entropy
from kdstore.store.manifest import CodecRecord

TEMPERATURE: Final = 2.0
"""Between the head, which T = 1 sees, and the tail, which T = 4 sees."""
LIMIT: Final = 2.0
"""How many times the sample's divergence a part may have before somebody should look."""

_POSITIONS = 32  # of every batch


class Drift:
    """Mean KL(full || stored) at T = 2 over a few positions of every batch of a part.

    Only codecs that were fitted drift; for others nothing is measured.
    """

    def __init__(self, codec: Codec[Any]) -> None:
        self._codec = codec
        self._sum, self._count = 0.0, 0

    def add(self, output: Output) -> None:
        """Measure the first positions of a batch."""
        if not self._codec.fitted:
            return
        piece = next(output.split(_POSITIONS))
        teacher = DenseSignal(self._codec.masked(piece.logits_LV))
        signal = self._codec.decode(self._codec.encode(piece), TEMPERATURE)
        assert not isinstance(signal, SampledSignal)
        stored_LC, full_LC = aligned_log_probs(signal, teacher.logits_LV, TEMPERATURE)
        kl_L = relative_entropy(full_LC.clamp(min=LOG_ZERO), stored_LC)
        self._sum += float(kl_L.double().sum())
        self._count += len(kl_L)

    @property
    def kl(self) -> float | None:
        """The mean so far in nats; None where nothing was measured."""
        return self._sum / self._count if self._count else None


def ratio(kl: float | None, codec: CodecRecord) -> float | None:
    """How many times the sample's divergence a part's is; None where either was not measured."""
    expected = next(
        (r.kl_mean for r in codec.fidelity if r.temperature == TEMPERATURE and r.codec == codec.name), None
    )
    return None if kl is None or not expected else kl / expected
