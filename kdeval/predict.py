"""Run a model over rows: what it writes by itself, and how it ranks the reference."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from kdeval.data import Item
from kdeval.results import Settings
from kdeval.samples import Sample, TokenScores
from kdeval.signal import Forced, StoredSignal
from kdstore.encode.teacher import Encoded, Teacher
from kdstore.encode.tokenizer import Tokenizer
from kdstore.errors import ModelError
from kdtrain.stream.batch import IGNORED
from kdtrain.tokens import CriticalTokens

_WINDOW_BATCHES = 8  # rows are sorted by length within so many batches, which are kept together
_WINDOW_BYTES = 1 << 27  # of teacher signal: dense codecs keep a megabyte a row
_DIGITS = 6  # of what is kept for each token


def load_model(directory: Path, device: str, batch_size: int) -> Teacher:
    """Load the seq2seq model in ``directory``, in float32.

    Raises
    ------
    ModelError
        There is no such directory, or no model in it.
    CapabilityError
        The device is not there.
    """
    if not directory.is_dir():
        raise ModelError(
            f"Expected a model directory at {directory}. Got {'a file' if directory.exists() else 'nothing'} there. "
            "Name the directory that holds config.json and model.safetensors."
        )
    if not (directory / "config.json").exists() and (directory / "final_model").is_dir():
        raise ModelError(f"Expected a model directory. Got the run directory {directory}. Name its final_model.")
    return Teacher(str(directory), device, "fp32", batch_size)


@dataclass(frozen=True)
class Window:
    """Some samples in the order of the data; the seconds that writing them took, and the tokens written."""

    samples: list[Sample]
    seconds: float
    tokens: int


class Predictor(Protocol):
    """What makes samples of rows."""

    def run(self, items: Iterable[Item], start: int, advance: Callable[[int], None]) -> Iterator[Window]:
        """Windows of samples in the order of ``items``, which begin at row ``start`` of the data.

        ``advance`` is told the number of rows after every batch.
        """


@dataclass(frozen=True)
class ModelPredictor:
    """A model with the settings of its generation; ``signal`` reads what the rows hold of a teacher."""

    model: Teacher
    tokenizer: Tokenizer
    signal: StoredSignal | None
    max_output_tokens: int
    settings: Settings

    def run(self, items: Iterable[Item], start: int, advance: Callable[[int], None]) -> Iterator[Window]:
        """See `Predictor`.

        Raises
        ------
        ModelError
            The model's logits are not finite.
        """
        source = iter(items)
        while window := list(_window(source, _WINDOW_BATCHES * self.model.batch_size)):
            samples: dict[int, Sample] = {}
            seconds, tokens = 0.0, 0
            # The longest first: memory peaks at once, not after hours.
            order = sorted(range(len(window)), key=lambda index: -len(window[index].input_ids))
            for first in range(0, len(order), self.model.batch_size):
                batch = order[first : first + self.model.batch_size]
                # The seed names the batch, so that a run that goes on draws what one without a break would.
                made = self._batch([window[index] for index in batch], (self.settings.seed, start, first))
                samples.update(zip(batch, made.samples, strict=True))
                seconds, tokens = seconds + made.seconds, tokens + made.tokens
                advance(len(batch))
            start += len(window)
            yield Window([samples[index] for index in range(len(window))], seconds, tokens)

    def _batch(self, items: Sequence[Item], seed: tuple[int, int, int]) -> Window:
        began = time.perf_counter()
        encoded = self.model.encode([item.input_ids for item in items])
        written = self._generate(encoded, seed)
        seconds = time.perf_counter() - began  # ids are lists by now: the device has finished
        texts = [self.tokenizer.decode(ids) for ids in written]
        ends = {self.model.pad_id, self.model.decoder_start_id}
        tokens = sum(token not in ends for ids in written for token in ids)
        forced = self._force(encoded, items)
        samples = [
            replace(sample_of(item), prediction=text, tokens=own, teacher_tokens=stored)
            for item, text, (own, stored) in zip(items, texts, forced, strict=True)
        ]
        return Window(samples, seconds, tokens)

    @torch.inference_mode()
    def _generate(self, encoded: Encoded, seed: tuple[int, int, int]) -> list[list[int]]:
        settings = self.settings
        if settings.num_beams == 1 and not settings.sample:
            return self.model.predict(encoded, self.max_output_tokens)
        drawn = {"temperature": settings.sampling_temperature, "top_p": settings.top_p, "top_k": 0}
        with torch.random.fork_rng(devices=[self.model.device] if self.model.device.type == "cuda" else []):
            torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> 1))
            ids_BT = self.model.model.generate(
                encoder_outputs=encoded.outputs(),
                attention_mask=encoded.mask_BS,
                max_new_tokens=self.max_output_tokens,
                num_beams=settings.num_beams,
                do_sample=settings.sample,
                **(drawn if settings.sample else {}),
            )
        return list(ids_BT.tolist())

    def _force(self, encoded: Encoded, items: Sequence[Item]) -> Iterator[tuple[TokenScores, TokenScores | None]]:
        """The pass over the references, of the model and of the teacher, for each row."""
        labels = [item.label_ids for item in items]
        for part in self.model.slices(labels):
            logits_LV = self.model.score(encoded.rows(part.start, part.stop), labels[part]).logits_LV
            yield from self._compare(items[part], logits_LV)

    def _compare(self, items: Sequence[Item], logits_LV: Tensor) -> Iterator[tuple[TokenScores, TokenScores | None]]:
        ids_L = _labels(items, logits_LV.device)
        likeliest_L = logits_LV.argmax(-1)
        nll_L = cross_entropy(logits_LV, ids_L, reduction="none")
        confidence_L = (logits_LV.gather(-1, likeliest_L[:, None])[:, 0] - logits_LV.logsumexp(-1)).exp()
        if not torch.isfinite(nll_L).all():
            raise ModelError(
                f"Expected finite logits from {self.model.name}. Got infinity or NaN. "
                "The weights are damaged or the training diverged; evaluate an earlier checkpoint."
            )
        own = Forced(nll_L, confidence_L, likeliest_L)
        signals = [item.signal for item in items if item.signal is not None]
        if self.signal is None or len(signals) < len(items):
            yield from ((scores, None) for scores in self._words.scores(items, own))
            return
        teacher = self.signal.teacher(signals, logits_LV.device)
        compared = self.signal.kl(signals, logits_LV), teacher.likeliest_L == likeliest_L
        ours = self._words.scores(items, own, compared, self.signal.temperature)
        yield from zip(ours, self._words.scores(items, teacher), strict=True)

    @cached_property
    def _words(self) -> "_Words":
        return _Words(CriticalTokens(self.tokenizer))


@dataclass(frozen=True)
class StoredPredictor:
    """Takes the predictions that rows hold of a teacher for its own, and its signal for its pass over references."""

    tokenizer: Tokenizer | None
    signal: StoredSignal | None
    batch_size: int

    def run(self, items: Iterable[Item], start: int, advance: Callable[[int], None]) -> Iterator[Window]:
        """See `Predictor`; nothing is written, so that there is no speed."""
        source = iter(items)
        while batch := list(_window(source, self.batch_size)):
            yield Window(list(self._batch(batch)), 0.0, 0)
            advance(len(batch))

    def _batch(self, items: Sequence[Item]) -> Iterator[Sample]:
        signals = [item.signal for item in items if item.signal is not None]
        tokens: list[TokenScores | None] = [None] * len(items)
        if self.signal is not None and self._words is not None and len(signals) == len(items):
            teacher = self.signal.teacher(signals, torch.device("cpu"))
            tokens = list(self._words.scores(items, teacher))
        for item, scores in zip(items, tokens, strict=True):
            yield replace(
                sample_of(item), prediction=item.teacher_prediction or "", teacher_prediction=None, tokens=scores
            )

    @cached_property
    def _words(self) -> "_Words | None":
        return None if self.tokenizer is None else _Words(CriticalTokens(self.tokenizer))


def sample_of(item: Item) -> Sample:
    """What a row says by itself."""
    return Sample(
        id=item.id,
        prompt=item.prompt,
        reference=item.reference,
        teacher_prediction=item.teacher_prediction,
        repo=item.repo,
        path=item.path,
    )


@dataclass(frozen=True)
class _Words:
    """Cuts what was found at label tokens into rows, and finds the critical words in them."""

    critical: CriticalTokens

    def scores(
        self,
        items: Sequence[Item],
        forced: Forced,
        compared: tuple[Tensor, Tensor] | None = None,
        temperature: float | None = None,
    ) -> Iterator[TokenScores]:
        """One for each row; ``compared`` are KL from the teacher, at ``temperature``, and agreement, each [L]."""
        lengths = [len(item.label_ids) for item in items]
        correct_L = forced.likeliest_L == _labels(items, forced.likeliest_L.device)
        columns = [_cut(tensor_L, lengths) for tensor_L in (forced.nll_L, forced.confidence_L, correct_L)]
        agreement = [_cut(tensor_L, lengths) for tensor_L in compared or ()]
        for row, words in enumerate(self._found(items)):
            nll, confidence, correct = (column[row] for column in columns)
            kl, agrees = (column[row] for column in agreement) if agreement else (None, None)
            yield TokenScores(nll, confidence, correct, words, kl, agrees, None if kl is None else temperature)

    def _found(self, items: Sequence[Item]) -> list[dict[str, list[int]]]:
        labels = [torch.tensor(item.label_ids) for item in items]
        labels_BT = torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=IGNORED)
        token_C, word_C, _ = self.critical.find(labels_BT)
        inside_C = word_C >= 0
        width = labels_BT.shape[1] + 1
        found: list[dict[str, set[int]]] = [{} for _ in items]
        for token, word in zip(token_C[inside_C].tolist(), word_C[inside_C].tolist(), strict=True):
            row, position = divmod(token, width)
            found[row].setdefault(self._categories[word], set()).add(position)
        return [{name: sorted(positions) for name, positions in words.items()} for words in found]

    @cached_property
    def _categories(self) -> list[str]:
        """The category of each word."""
        categories = self.critical.database.categories
        return [name for name, category in categories.items() for _ in category.words]


def _window(source: Iterator[Item], rows: int) -> Iterator[Item]:
    """The next rows, at most ``rows``, and no more once their signals take much memory."""
    size = taken = 0
    while taken < rows and size < _WINDOW_BYTES and (item := next(source, None)) is not None:
        taken += 1
        size += sum(array.nbytes for array in (item.signal or {}).values())
        yield item


def _labels(items: Sequence[Item], device: torch.device) -> Tensor:
    return torch.tensor([token for item in items for token in item.label_ids], device=device)


def _cut(values_L: Tensor, lengths: Sequence[int]) -> list[list[Any]]:
    """Values of all rows as a list for each; numbers with as many digits as are worth keeping."""
    if values_L.is_floating_point():
        values_L = values_L.double()
        return [[round(value, _DIGITS) for value in row.tolist()] for row in torch.split(values_L, list(lengths))]
    return [row.tolist() for row in torch.split(values_L, list(lengths))]
