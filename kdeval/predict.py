"""Run a model over rows: what it writes by itself, and how it ranks the reference."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from kdeval.data import Item
from kdeval.metrics import Sample
from kdstore.encode.teacher import Encoded, Teacher
from kdstore.encode.tokenizer import Tokenizer
from kdstore.errors import ModelError

_WINDOW_BATCHES = 32  # rows are sorted by length within so many batches: little padding, bounded memory


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
    return Teacher(str(directory), device, "fp32", batch_size)


@dataclass(frozen=True)
class Predictor:
    """A model with the settings of its generation."""

    model: Teacher
    tokenizer: Tokenizer
    max_output_tokens: int
    num_beams: int

    def run(self, items: Iterable[Item], advance: Callable[[int], None]) -> Iterator[list[Sample]]:
        """Yield samples in the order of ``items``, a window of batches at a time.

        ``advance`` is told the number of rows after every batch.

        Raises
        ------
        ModelError
            The model's logits are not finite.
        """
        source = iter(items)
        while window := list(itertools.islice(source, _WINDOW_BATCHES * self.model.batch_size)):
            samples: dict[int, Sample] = {}
            # The longest first: memory peaks at once, not after hours.
            order = sorted(range(len(window)), key=lambda index: -len(window[index].input_ids))
            for start in range(0, len(order), self.model.batch_size):
                batch = order[start : start + self.model.batch_size]
                samples.update(zip(batch, self._batch([window[index] for index in batch]), strict=True))
                advance(len(batch))
            yield [samples[index] for index in range(len(window))]

    def _batch(self, items: Sequence[Item]) -> Iterator[Sample]:
        encoded = self.model.encode([item.input_ids for item in items])
        counts = self._score(encoded, [item.label_ids for item in items])
        for item, ids, counted in zip(items, self._generate(encoded), counts, strict=True):
            yield Sample(
                id=item.id,
                prompt=item.prompt,
                reference=item.reference,
                prediction=self.tokenizer.decode(ids),
                teacher_prediction=item.teacher_prediction,
                repo=item.repo,
                path=item.path,
                **counted,
            )

    @torch.inference_mode()
    def _generate(self, encoded: Encoded) -> list[list[int]]:
        if self.num_beams == 1:
            return self.model.predict(encoded, self.max_output_tokens)
        ids_BT = self.model.model.generate(
            encoder_outputs=encoded.outputs(),
            attention_mask=encoded.mask_BS,
            max_new_tokens=self.max_output_tokens,
            num_beams=self.num_beams,
            do_sample=False,
        )
        return list(ids_BT.tolist())

    def _score(self, encoded: Encoded, labels: Sequence[list[int]]) -> list[dict[str, Any]]:
        """The teacher-forced fields of `Sample`, for each row."""
        counts: list[dict[str, Any]] = []
        for part in self.model.slices(labels):
            logits_LV = self.model.score(encoded.rows(part.start, part.stop), labels[part]).logits_LV
            ids_L = torch.tensor([token for row in labels[part] for token in row], device=logits_LV.device)
            nll_L = cross_entropy(logits_LV, ids_L, reduction="none").double()
            if not torch.isfinite(nll_L).all():
                raise ModelError(
                    f"Expected finite logits from {self.model.name}. Got infinity or NaN. "
                    "The weights are damaged or the training diverged; evaluate an earlier checkpoint."
                )
            correct_L = logits_LV.argmax(-1) == ids_L
            lengths = [len(row) for row in labels[part]]
            for nll, correct in zip(torch.split(nll_L, lengths), torch.split(correct_L, lengths), strict=True):
                counts.append(
                    {"token_count": len(nll), "token_correct": int(correct.sum()), "nll_sum": float(nll.sum())}
                )
        return counts
