"""Let a student write, and give its own samples a gradient."""

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from kdstore.parsing import ParserPool
from kdstore.store.manifest import TokenizerRecord
from kdtrain.losses import SampleLoss
from kdtrain.losses.fused import LossOut, Targets
from kdtrain.models import seq2seq
from kdtrain.models.sampling import evaluating, sample_and_greedy
from kdtrain.stream.batch import IGNORED, Batch


class Policy:
    """Samples of a student's outputs, and the gradient of what is thought of them.

    Parameters
    ----------
    tokenizer
        Turns ids into text.
    ids
        Its special ids.
    max_tokens
        Longest output.
    parsers
        Say which texts are valid.

    Attributes
    ----------
    seconds
        Spent here so far.
    """

    def __init__(self, tokenizer: Any, ids: TokenizerRecord, max_tokens: int, parsers: ParserPool) -> None:
        self._tokenizer, self._ids, self._max_tokens, self._parsers = tokenizer, ids, max_tokens, parsers
        self.seconds = 0.0

    def loss(
        self,
        model: seq2seq.Model,
        batch: Batch,
        encoder_BSD: Tensor,
        keys: Sequence[int],
        component: SampleLoss,
    ) -> LossOut:
        r"""The loss of one sample for each of a batch's first rows.

        ``keys`` has one for each of these rows; the model's head knows cross-entropy. The total is as large as the
        samples' loss r, and its gradient that of :math:`(r(s) - r(g)) \log \pi(s)`.
        """
        start, rows = time.monotonic(), len(keys)
        states_BSD, mask_BS = encoder_BSD[:rows], batch.attention_mask_BS[:rows]
        sampled_BT, greedy_BT = sample_and_greedy(model, states_BSD, mask_BS, keys, self._max_tokens, self._ids)
        losses = component(self._parsers.submit(self._texts(sampled_BT) + self._texts(greedy_BT)).result())
        loss_B, baseline_B = encoder_BSD.new_tensor(losses, dtype=torch.float32).view(2, rows)
        total, moved_B = loss_B.sum(), loss_B != baseline_B
        if torch.is_grad_enabled() and moved_B.any():  # else the gradient is zero
            outputs = BaseModelOutput(last_hidden_state=states_BSD[moved_B])
            advantage_B = (loss_B - baseline_B)[moved_B]
            score = self._score(model, outputs, mask_BS[moved_B], sampled_BT[moved_B], advantage_B)
            total = total + score - score.detach()
        self.seconds += time.monotonic() - start
        return LossOut(total, {component.name: loss_B.sum()})

    def undecided(self) -> str:
        """Texts so far that could not be decided, and so count as invalid, in words; empty where there are none."""
        counts = {
            "took too long": self._parsers.timeouts,
            "ended their parser": self._parsers.crashes,
            "were too long": self._parsers.too_long,
        }
        return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)

    def _score(
        self,
        model: seq2seq.Model,
        encoder_outputs: BaseModelOutput,
        mask_BS: Tensor,
        sampled_BT: Tensor,
        advantage_B: Tensor,
    ) -> Tensor:
        """The sum of advantage times log pi over samples, teacher-forced on them."""
        with evaluating(model):  # as when they were drawn
            states = seq2seq.states(model, sampled_BT, encoder_outputs=encoder_outputs, attention_mask=mask_BS)
        real_BT = sampled_BT != IGNORED
        # Cross-entropy is minus log pi.
        weights_L = -advantage_B[:, None].expand(real_BT.shape)[real_BT]
        found: LossOut = model.get_output_embeddings()(
            states.decoder_BTD[real_BT], Targets(sampled_BT[real_BT], weights_L=weights_L), {"ce": 1.0}
        )
        return found.total

    def _texts(self, labels_BT: Tensor) -> list[str]:
        rows = [[token for token in row if token != IGNORED] for row in labels_BT.tolist()]
        return list(self._tokenizer.batch_decode(rows, skip_special_tokens=True))
