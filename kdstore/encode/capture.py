"""Keep the teacher's whole output for some rows: to fit a codec on, and to measure it on others."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from kdstore.codecs import Output, Sample
from kdstore.encode.teacher import Teacher
from kdstore.fidelity.probe import Probe

# Where the head is not linear, the logits themselves must be kept: this many bytes of them at most.
_LOGIT_BYTES = 2 << 30


def capture(
    teacher: Teacher,
    inputs: list[list[int]],
    labels: list[list[int]],
    padded_from: int | None,
    advance: Callable[[int], None],
) -> Probe:
    """Run the teacher over rows and keep its output at every label token.

    Hidden states are kept where the teacher's head is linear, [L, D] instead of [L, V]; else the logits, of as many
    rows as fit into 2 GiB.

    Parameters
    ----------
    teacher
        Run in batches of its own size, which depend on nothing but these rows.
    inputs, labels
        Token ids.
    padded_from
        Ids from here on are padding of the vocabulary; None where there are none.
    advance
        Told after each batch how many rows are done.
    """
    if teacher.head is None:
        count = _fitting(labels, _LOGIT_BYTES // (4 * teacher.vocab_size))
        inputs, labels = inputs[:count], labels[:count]
    kept: list[Tensor] = []
    for start in range(0, len(labels), teacher.batch_size):
        batch = slice(start, start + teacher.batch_size)
        outputs = _outputs(teacher, inputs[batch], labels[batch])
        kept += [output.logits_LV if output.hidden_LD is None else output.hidden_LD for output in outputs]
        advance(len(labels[batch]))
    width = teacher.vocab_size if teacher.head is None else teacher.head.weight_VD.shape[1]
    values = torch.cat(kept) if kept else torch.zeros(0, width)
    sample = (
        Sample(logits_FV=values, padded_from=padded_from)
        if teacher.head is None
        else Sample(hidden_FD=values, head=teacher.head, padded_from=padded_from)
    )
    return Probe(inputs, labels, sample)


def _outputs(teacher: Teacher, inputs: list[list[int]], labels: list[list[int]]) -> Iterator[Output]:
    encoded = teacher.encode(inputs)
    for rows in teacher.slices(labels):
        yield teacher.score(encoded.rows(rows.start, rows.stop), labels[rows])


def _fitting(labels: Sequence[list[int]], positions: int) -> int:
    """How many rows have at most so many label tokens; at least one."""
    count = total = 0
    while count < len(labels) and (total := total + len(labels[count])) <= positions:
        count += 1
    return max(1, count)
