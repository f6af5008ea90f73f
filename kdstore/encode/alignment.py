"""Do a store's texts, tokens and signals belong together? A few rows are tokenized and decoded again."""

import string
from collections.abc import Iterable, Sequence
from typing import Any, Final

from kdstore.encode._label_fit import fit_labels
from kdstore.encode.tokenizer import Tokenizer, truncate_prompt, truncate_target
from kdstore.errors import CapabilityError, MismatchError
from kdstore.store.reader import Store
from kdstore.tasks import TASKS

ROWS: Final = 16
"""Rows of each part that are looked at, the first ones: a store is written in random order."""

# A prompt that was cut on the left may begin inside a word. Tokenized again, that word falls into other tokens, and
# a run of digits or of spaces too; hardly one of them is longer than this.
_MARGIN = 32

Row = dict[str, Any]


def check_alignment(store: Store, parts: Iterable[int], *, with_signal: bool = True) -> list[str]:
    """Check the first rows of some parts; what could not be checked, and why, one line each.

    * The store's template is that of its task.
    * The text of the target, tokenized and cut as the build does it, gives the labels.
    * The prompt gives the input: filled into the template where the store keeps all of its texts. Else the input's
      own text gives it, which counts only when most rows differ: not every text survives its tokens.
    * The signal gives labels their stored log-probabilities, rather than those of the tokens next to them
      (``with_signal``).

    Raises
    ------
    MismatchError
        Two of them do not belong together; the row and the first position that differ are named.
    CorruptStoreError
        A file is damaged.
    """
    check = _Check(store, with_signal)
    unknown = check.template()
    for part in parts:
        rows = check.rows(part)
        unknown += [*check.labels(rows), *check.inputs(rows), *check.signal(rows)]
    return list(dict.fromkeys(unknown))


class _Check:
    """The checks of one store; each gives the reasons why it knows nothing."""

    def __init__(self, store: Store, with_signal: bool) -> None:
        self.store, self.head = store, store.head
        self.fields = {field.name for field in store.schema.fields}
        self.tokenizer = Tokenizer(store.tokenizer_path)
        self.task = TASKS.get(self.head.task) if self.head.task in TASKS.names() else None
        self.codec = store.codec() if with_signal else None

    def rows(self, part: int) -> list[Row]:
        """The first rows of a part, without embeddings."""
        wanted = [name for name in self.fields if not name.startswith("embeddings/")]
        block = self.store.part(part).read(0, 1, wanted)
        return [block.row(index) for index in range(min(ROWS, block.rows))]

    def template(self) -> list[str]:
        """Compare the store's template with its task's."""
        if self.task is None:
            return [f"template: no task {self.head.task!r} is installed to compare it with."]
        if self.task.template != self.head.template:
            raise MismatchError(
                f"Expected the template {self.task.template!r} of the task {self.head.task!r} in {self.store.root}. "
                f"Got {self.head.template!r}. Build the store again, or install the task that wrote it."
            )
        return []

    def labels(self, rows: Sequence[Row]) -> list[str]:
        """Tokenize targets again."""
        column = f"text/{self.task.target_column}" if self.task else ""
        if column not in self.fields:
            return ["labels: no text of the targets is known to compare them with."]
        for row, ids in zip(rows, self.tokenizer.ids([row[column] for row in rows]), strict=True):
            self._compare("labels", row, truncate_target(ids, self.head.limits), column)
        return []

    def inputs(self, rows: Sequence[Row]) -> list[str]:
        """Tokenize prompts again."""
        if self.head.imported and self.head.imported.causal:
            return ["input_ids: they were imported as ids, whose text is not known."]
        # The template of a task that is not installed is text of others: filling it in could do anything.
        template = self.task.template if self.task and self.task.template == self.head.template else ""
        names = [name for _, name, _, _ in string.Formatter().parse(template) if name]
        if not names or not {f"text/{name}" for name in names} <= self.fields:
            return self._round_trip(rows)
        prompts = [template.format(**{name: row[f"text/{name}"] for name in names}) for row in rows]
        for row, ids in zip(rows, self.tokenizer.ids(prompts), strict=True):
            self._compare("input_ids", row, truncate_prompt(ids, self.head.limits), "its template, filled in")
        return []

    def _round_trip(self, rows: Sequence[Row]) -> list[str]:
        """Tokenize the text of inputs again. A quirk of a text is met in few rows, another tokenizer in all."""
        compared = [(row, pair) for row in rows if (pair := self._again(row["input_ids"].tolist()))]
        wrong = [(row, pair) for row, pair in compared if pair[0] != pair[1]]
        if not compared:
            return [
                "input_ids: no text of theirs can be told from the ids, which hold special tokens or little else."
            ]
        if 2 * len(wrong) > len(compared):
            row, (stored, again) = wrong[0]
            raise self._mismatch(
                "input_ids", row, stored, again, "their own text", len(row["input_ids"]) - len(stored)
            )
        return []

    def _again(self, ids: list[int]) -> tuple[list[int], list[int]] | None:
        """Ids whose text is known, and what the tokenizer makes of it; None where that means nothing."""
        backend, limits = self.tokenizer.backend, self.head.limits
        ordinary = [token not in backend.all_special_ids for token in ids]
        if True not in ordinary:
            return None
        first, last = ordinary.index(True), len(ids) - ordinary[::-1].index(True)
        if not all(ordinary[first:last]):  # an unknown token, or one that the text spells out
            return None
        # Cleaning up would put punctuation where the text did not have it.
        text = backend.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        (again,) = self.tokenizer.ids([text])
        if len(ids) < limits.max_input_tokens or limits.overlong == "skip":
            return ids, again
        tail = ids[_MARGIN:]
        return (tail, again[-len(tail) :]) if tail else None

    def signal(self, rows: Sequence[Row]) -> list[str]:
        """Decode signals at T = 1, and compare what they give the labels."""
        if self.codec is None:
            return []
        if "label_logprob" not in self.fields:
            return ["signal: the labels' log-probabilities are not stored beside it."]
        try:
            self.codec.check_temperature(1.0)
        except CapabilityError:
            return [
                f"signal: its codec {self.codec.name!r} does not serve T = 1, at which the labels' log-probabilities "
                "are kept."
            ]
        fit = fit_labels(self.codec, self.store.schema, rows)
        if fit is None:
            return ["signal: no label among these rows has both a log-probability and a candidate to compare."]
        if fit.aligned:
            return []
        row, position = rows[fit.row], fit.position
        shifted = {
            1: " Each position holds the signal of the next label: it is shifted by one token.",
            -1: " Each position holds the signal of the label before: it is shifted by one token.",
        }.get(fit.shift, "")
        raise MismatchError(
            f"Expected the signals of {self.store.root} to give its labels their stored log-probabilities. Got "
            f"others, {fit.nats:.2f} nats away in the median of {fit.tokens:,} tokens, first at position {position} "
            f"of row {row['id']!r}, label {self._token(row['labels'], position)}.{shifted} Build the store again."
        )

    def _compare(self, what: str, row: Row, again: list[int], source: str) -> None:
        stored = row[what].tolist()
        if stored != again:
            raise self._mismatch(what, row, stored, again, source, 0)

    def _mismatch(
        self, what: str, row: Row, stored: list[int], again: list[int], source: str, start: int
    ) -> MismatchError:
        """An error naming the first position, counted from ``start``, at which the lists differ."""
        pairs = zip(stored, again, strict=False)
        at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(stored), len(again)))
        return MismatchError(
            f"Expected {what} of row {row['id']!r} in {self.store.root} as the store's tokenizer makes them of "
            f"{source}: {self._token(again, at)} at position {start + at}. Got {self._token(stored, at)}. The tokens "
            "are not those of this tokenizer, template or text; build the store again."
        )

    def _token(self, ids: Sequence[int], position: int) -> str:
        if position >= len(ids):
            return "no token"
        token = int(ids[position])
        return f"{self.tokenizer.backend.decode([token])!r} (id {token})"
