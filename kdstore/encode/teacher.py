"""The teacher: one forward pass per batch, teacher-forced on the reference, and its own prediction."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForSeq2SeqLM
from transformers.modeling_outputs import BaseModelOutput

from kdstore.codecs import Head, Output
from kdstore.encode.device import resolve_device, resolve_dtype
from kdstore.errors import MismatchError, ModelError, first_line
from kdstore.store.manifest import TeacherRecord

_LOGITS = 1 << 26  # most logits at once: 256 MiB
_PROBED = 32  # tokens on which it is found out whether a head is linear
_SHORT = 40  # tokens of the first generation pass: nearly all assertions are shorter


@dataclass(frozen=True)
class Encoded:
    """Encoder states of a batch, ``states_BSD``, and the mask of real tokens, ``mask_BS``."""

    states_BSD: Tensor
    mask_BS: Tensor

    def rows(self, start: int, stop: int) -> "Encoded":
        """Some rows of the batch."""
        return Encoded(self.states_BSD[start:stop], self.mask_BS[start:stop])

    def outputs(self) -> BaseModelOutput:
        """In the form that Hugging Face models take."""
        return BaseModelOutput(last_hidden_state=self.states_BSD)


class Teacher:
    """A seq2seq model that scores references.

    Parameters
    ----------
    name
        A local directory or a hub name of a Hugging Face seq2seq model.
    device, dtype
        See `kdstore.encode.device`.
    batch_size
        Rows per encoder pass and generation. Pinned for a build: sums in another order would give other bytes.
    """

    def __init__(self, name: str, device: str, dtype: str, batch_size: int) -> None:
        self.name = name
        self.device = resolve_device(device)
        self.dtype_name = dtype
        self.batch_size = batch_size
        self.model = load_seq2seq(name, resolve_dtype(dtype, self.device)).to(self.device).eval()
        config = self.model.config
        self.vocab_size: int = config.vocab_size
        self.pad_id: int = config.pad_token_id
        self.decoder_start_id: int = config.decoder_start_token_id
        self.head = self._linear_head()

    def record(self) -> TeacherRecord:
        """What a manifest says of this teacher."""
        return TeacherRecord(
            name=self.name,
            revision=getattr(self.model.config, "_commit_hash", None),
            weights_sha256=weights_sha256(self.model),
            dtype=self.dtype_name,
            device=self.device.type,
            batch_size=self.batch_size,
            threads=torch.get_num_threads(),
        )

    def check_vocabulary(self, tokenizer_size: int) -> None:
        """Raise `MismatchError` when the tokenizer has ids that the model cannot score."""
        if tokenizer_size > self.vocab_size:
            raise MismatchError(
                f"Expected a tokenizer of at most {self.vocab_size} ids, the teacher's vocabulary. "
                f"Got {tokenizer_size}. Use the teacher's own tokenizer."
            )

    @torch.inference_mode()
    def encode(self, inputs: Sequence[list[int]]) -> Encoded:
        """Run the encoder on the ids of B rows."""
        mask_BS = _mask(inputs, self.device)
        output = self.model.get_encoder()(input_ids=self._pad(inputs), attention_mask=mask_BS)
        return Encoded(output.last_hidden_state, mask_BS)

    @torch.inference_mode()
    def score(self, encoded: Encoded, labels: Sequence[list[int]]) -> Output:
        """The output at every label token, teacher-forced, in row order: logits float32 [L, V], and hidden states."""
        real_BT = _mask(labels, self.device).bool()
        with _inputs_of(self._output_layer) as hidden_BTD:
            logits_BTV = self._decode(labels, encoder_outputs=encoded.outputs(), attention_mask=encoded.mask_BS)
        if self.head is None:
            return Output(logits_BTV[real_BT].float())
        hidden_LD = hidden_BTD[0][real_BT].float()
        # In half precision the model rounds its logits; what is measured is what its hidden states say.
        half = self.dtype_name != "fp32"
        return Output(self.head.logits(hidden_LD) if half else logits_BTV[real_BT].float(), hidden_LD)

    def logits(self, inputs: Sequence[list[int]], labels: Sequence[list[int]]) -> Tensor:
        """Logits of every label token, float32 [L, V], differentiable in the model's parameters."""
        logits_BTV = self._decode(labels, input_ids=self._pad(inputs), attention_mask=_mask(inputs, self.device))
        return logits_BTV[_mask(labels, self.device).bool()].float()

    @property
    def _output_layer(self) -> torch.nn.Module:
        return cast(torch.nn.Module, self.model.get_output_embeddings())

    @torch.inference_mode()
    def _linear_head(self) -> Head | None:
        """The linear map that ends the model; None where something else does, such as a soft cap on its logits."""
        if not isinstance(self._output_layer, torch.nn.Linear):
            return None
        bias_1V = getattr(self.model, "final_logits_bias", None)  # BART adds it after its output layer
        bias_V = self._output_layer.bias if bias_1V is None else bias_1V[0]
        head = Head(self._output_layer.weight.detach(), None if bias_V is None else bias_V.detach())
        # Ids from all over the vocabulary: a soft cap hardly bends small logits.
        ids = [torch.linspace(0, self.vocab_size - 1, _PROBED).long().tolist()]
        with _inputs_of(self._output_layer) as hidden_BTD:
            logits_TV = self._decode(ids, input_ids=self._pad(ids))[0].float()
        error = (head.logits(hidden_BTD[0][0]) - logits_TV).abs().max()
        allowed = 1e-4 if self.dtype_name == "fp32" else 1e-2
        return head if error <= allowed * (1 + logits_TV.abs().max()) else None

    def _decode(self, labels: Sequence[list[int]], **inputs: Any) -> Tensor:
        # The decoder sees the labels shifted right: position t predicts label t.
        starts = [[self.decoder_start_id, *row[:-1]] for row in labels]
        return cast(Tensor, self.model(**inputs, decoder_input_ids=self._pad(starts)).logits)

    def predict(self, encoded: Encoded, max_new_tokens: int) -> list[list[int]]:
        """Greedy predictions of B rows, as ids.

        Nearly all rows end early, and a batch runs as long as its longest row: rows that are still open after a
        short pass are predicted again, by themselves.
        """
        predictions = self._generate(encoded, min(_SHORT, max_new_tokens))
        eos_id = self.model.config.eos_token_id
        rows = [row for row, ids in enumerate(predictions) if eos_id not in ids]
        if rows and max_new_tokens > _SHORT:
            again = self._generate(Encoded(encoded.states_BSD[rows], encoded.mask_BS[rows]), max_new_tokens)
            for row, ids in zip(rows, again, strict=True):
                predictions[row] = ids
        return predictions

    @torch.inference_mode()
    def _generate(self, encoded: Encoded, max_new_tokens: int) -> list[list[int]]:
        ids_BT = self.model.generate(
            encoder_outputs=encoded.outputs(),
            attention_mask=encoded.mask_BS,
            max_new_tokens=max_new_tokens,
            num_beams=1,
            do_sample=False,
        )
        return cast(list[list[int]], ids_BT.tolist())

    def slices(self, labels: Sequence[list[int]]) -> Iterator[slice]:
        """Runs of rows whose logits fit into a fixed memory."""
        longest = max(len(row) for row in labels)
        rows = max(1, _LOGITS // (longest * self.vocab_size))
        yield from (slice(start, min(start + rows, len(labels))) for start in range(0, len(labels), rows))

    def _pad(self, rows: Sequence[list[int]]) -> Tensor:
        tensors = [torch.tensor(row, dtype=torch.long) for row in rows]
        return pad_sequence(tensors, batch_first=True, padding_value=self.pad_id).to(self.device)


@contextmanager
def _inputs_of(layer: torch.nn.Module) -> Iterator[list[Tensor]]:
    """What ``layer`` is given while the block runs, scaled as the model scales it."""
    seen: list[Tensor] = []
    with layer.register_forward_pre_hook(lambda module, args: seen.append(args[0])):
        yield seen


def load_seq2seq(name: str, dtype: torch.dtype, **settings: Any) -> Any:
    """The model in a directory or on the model hub; ``settings`` replace those of its configuration.

    Weights come from safetensors where there are any; other weight files are read as plain tensors, never
    unpickled. No code that comes with a model is run.

    Raises
    ------
    ModelError
        It is not there, is damaged, cannot be downloaded, or is not an encoder-decoder model.
    """
    try:
        return AutoModelForSeq2SeqLM.from_pretrained(name, dtype=dtype, trust_remote_code=False, **settings)
    except Exception as error:  # transformers, safetensors and the hub client raise some twenty unrelated types
        raise ModelError(
            f"Expected a Hugging Face seq2seq model at {name!r}. Got: {first_line(error)} "
            "Give a local directory with config.json and model.safetensors, or download it where there is a network."
        ) from None


def same_teacher(name: str, device: str, record: TeacherRecord) -> Teacher:
    """The teacher that made a store, run as it was then: in the same number format and batches.

    Raises
    ------
    MismatchError
        The model called ``name`` has other weights than ``record`` says.
    ModelError
        It cannot be loaded.
    """
    teacher = Teacher(name, device, record.dtype, record.batch_size)
    found = weights_sha256(teacher.model)
    if found != record.weights_sha256:
        raise MismatchError(
            f"Expected the teacher that made the store, {record.name} with weights {record.weights_sha256[:12]}. "
            f"Got {name} with {found[:12]}. Give the same one as --teacher."
        )
    return teacher


def weights_sha256(model: torch.nn.Module) -> str:
    """SHA-256 over all weights, names and values in name order: the same for every file format they came in."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _mask(rows: Sequence[list[int]], device: torch.device) -> Tensor:
    lengths = torch.tensor([len(row) for row in rows], device=device)
    return (torch.arange(int(lengths.max()), device=device)[None, :] < lengths[:, None]).long()
