"""Draw what an encoder-decoder model would say: one exact sample per row, and the greedy output beside it."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList
from transformers.modeling_outputs import BaseModelOutput

from kdstore.store.manifest import TokenizerRecord
from kdtrain.models.seq2seq import Model
from kdtrain.stream.batch import IGNORED


def sample_key(seed: int, step: int, sample_id: str) -> int:
    """A key of 63 bits for the sample that a row gets in a step: equal in every process and on every machine."""
    digest = hashlib.blake2b(f"{seed}\0{step}\0{sample_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def sample_and_greedy(
    model: Model,
    encoder_states_BSD: Tensor,
    attention_mask_BS: Tensor,
    keys: Sequence[int],
    max_tokens: int,
    tokenizer: TokenizerRecord,
) -> tuple[Tensor, Tensor]:
    r"""One sample from the model's own distribution and its greedy output, labels int64 [B, T] each.

    Sampling is ancestral, from the full softmax at T = 1, by the Gumbel-max trick:
    :math:`\arg\max_v (z_v + g_v)` with :math:`g_v = -\log(-\log u_v)` is distributed as
    :math:`\mathrm{softmax}(z)`. So both outputs come from one greedy search over 2B rows, and no setting of the
    model's generation config has a part in it. Runs in eval mode and without gradients; modes, generation config and
    torch's random state are as before afterwards.

    Parameters
    ----------
    model
        A seq2seq model, not wrapped.
    encoder_states_BSD
        What its encoder says of the rows; the encoder is not run.
    attention_mask_BS
        0 at padding.
    keys
        One per row, below 2^64, see `sample_key`: the noise of a row depends on its key and the position in the
        output alone, not on the rows beside it or the device.
    max_tokens
        Longest output, end token counted.
    tokenizer
        The ids that start, end and fill rows.

    Returns
    -------
    sampled_BT, greedy_BT
        As the labels of a batch: no start token, the end token where the model said it, `IGNORED` behind. Each is as
        wide as its longest row.
    """
    rows = len(keys)
    states_2BSD = torch.cat([encoder_states_BSD, encoder_states_BSD]).detach()
    settings = GenerationConfig(
        max_new_tokens=max_tokens,
        do_sample=False,
        num_beams=1,
        pad_token_id=tokenizer.pad_id,
        eos_token_id=tokenizer.eos_id,
        decoder_start_token_id=tokenizer.decoder_start_id,
    )
    with _generating(model, settings), torch.no_grad():
        ids_2BT = model.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=states_2BSD),
            attention_mask=torch.cat([attention_mask_BS, attention_mask_BS]),
            generation_config=settings,
            logits_processor=LogitsProcessorList([_GumbelNoise(keys, tokenizer.eos_id)]),
        )
    return _labels(ids_2BT[:rows], tokenizer.eos_id), _labels(ids_2BT[rows:], tokenizer.eos_id)


@contextmanager
def _generating(model: Model, settings: GenerationConfig) -> Iterator[None]:
    """Eval mode, and ``settings`` as the model's own: ``generate`` fills what is not set from those."""
    own, model.generation_config = model.generation_config, settings
    try:
        with evaluating(model):
            yield
    finally:
        model.generation_config = own


@contextmanager
def evaluating(model: Model) -> Iterator[None]:
    """Eval mode; every module's own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


class _GumbelNoise(LogitsProcessor):  # type: ignore[misc]  # the library is untyped for us
    """Adds noise to the scores of the first rows, one per key, until they have ended."""

    def __init__(self, keys: Sequence[int], eos_id: int) -> None:
        self.keys, self.eos_id = keys, eos_id

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores float32 [2B, V] with noise in B rows."""
        said_BT = input_ids[: len(self.keys), 1:]
        noise_BV = torch.zeros(len(self.keys), scores.shape[1])
        open_B = (said_BT != self.eos_id).all(dim=1)
        for row in open_B.nonzero()[:, 0].tolist():
            noise_BV[row] = _gumbel(self.keys[row], said_BT.shape[1], scores.shape[1])
        return torch.cat([scores[: len(self.keys)] + noise_BV.to(scores.device), scores[len(self.keys) :]])


def _gumbel(key: int, position: int, vocab_size: int) -> Tensor:
    """Standard Gumbel noise [V] of one position of one output.

    numpy's Philox is a function of key and counter. torch's generator on the CPU keeps 32 bits of its seed, and what
    it gives depends on what was drawn before.
    """
    generator = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, position]))
    # Double: with 24 random bits the noise would end at 17, and rare tokens of a large vocabulary with it.
    return torch.from_numpy(generator.random(vocab_size)).log_().neg_().log_().neg_()


def _labels(ids_BT: Tensor, eos_id: int) -> Tensor:
    """Generated ids without the start token, `IGNORED` behind the end; the padding id is one a model may say."""
    ids_BT = ids_BT[:, 1:]
    ends_BT = (ids_BT == eos_id).long()
    labels_BT = ids_BT.masked_fill(ends_BT.cumsum(dim=1) - ends_BT > 0, IGNORED)
    return labels_BT[:, (labels_BT != IGNORED).any(dim=0)]
