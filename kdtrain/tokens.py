"""Critical tokens: the label tokens whose error makes a generated Java assertion wrong.

``critical_tokens.toml`` names the words, such as ``assertEquals``, ``!=`` and ``(``. What counts as one in labels:

* The labels are spelt out as the text that they stand for. A word counts wherever it stands whole in it, and every
  sub-token that holds some of its characters is critical. So all pieces of ``assert|Equals`` are, and so is a
  sub-token of several words, such as ``());``. How a tokenizer cuts a word does not matter.
* A word of identifier characters (letters, digits, ``_ $ @``, and whatever lies outside ASCII and is spread over
  several sub-tokens) stands whole where no such character precedes or follows it. ``assertEqualsFoo`` and ``my_size``
  hold no word. Comments and strings are not told apart from code.
* Any other word counts wherever it stands, unless it begins within a longer one: ``->`` holds no ``>``.
* Spaces are those that the tokenizer keeps. One that keeps none beside punctuation (BERT's) is read as if there
  were none: ``my _ size`` and ``my_size`` are the same ids, and hold no word. Words are compared as the tokenizer
  normalises them; of words that it spells alike (lower-casing ones do that), the first in the file counts.
* Special tokens and padding are never critical, and no word reaches over them or from one row into the next.

Further shape letters: M label tokens with padding, flat over rows; C characters of these; X characters of all ids,
flat; R runs of identifier characters; W words; J characters of the longest word; G categories.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from kdstore.encode.tokenizer import Tokenizer
from kdstore.errors import EmptyInputError, MismatchError
from kdstore.schema import Block
from kdstore.store import layout
from kdstore.store.reader import Store
from kdtrain.critical_words import LINKS, LONGEST_SIGN, Database, is_identifier, read_database
from kdtrain.stream.batch import IGNORED

_IDENTIFIER = 1 << 21  # added to the code points of identifier characters, which are all smaller
_BREAK = "\n"  # spells special tokens and padding
_FILL = -1  # no character's code


class Found(NamedTuple):
    """Where words stand in labels: per character its label token, its word (-1: none), and whether it begins it."""

    token_C: Tensor
    word_C: Tensor
    begins_C: Tensor


class CriticalTokens:
    """Finds the critical tokens of one tokenizer's labels, see the module.

    Parameters
    ----------
    tokenizer
        Whose ids the labels are.
    database
        The words; by default those of this package.

    Raises
    ------
    UsageError
        See `read_database`.
    """

    _built: ClassVar[dict[frozenset[tuple[str, str]], "CriticalTokens"]] = {}  # by the hashes of a tokenizer's files

    def __init__(self, tokenizer: Tokenizer, database: Database | None = None) -> None:
        self.database = database or read_database()
        self.words = self.database.words
        self._backend = tokenizer.backend
        fast = self._backend.backend_tokenizer
        normal = fast.normalizer.normalize_str if fast.normalizer else str
        # A normaliser may also mark where words begin.
        spelt = [normal(word).replace("▁", " ").strip() for word in self.words]
        self.same = [spelt.index(text) for text in spelt]
        self._drops_spaces = _ids(self._backend, "a.b") == _ids(self._backend, "a . b")
        first = dict(zip(reversed(spelt), reversed(range(len(spelt))), strict=True))
        self._tables = {torch.device("cpu"): _Tables.of(_spellings(self._backend), first)}

    @classmethod
    def of(cls, store: Store) -> "CriticalTokens":
        """Those of the tokenizer of a store's labels, with the words of this package; made once per process.

        Raises
        ------
        CorruptStoreError
            A tokenizer file is missing or changed.
        ModelError
            The tokenizer cannot be loaded.
        """
        shared = store.manifest.shared_files.items()
        key = frozenset((path, file.sha256) for path, file in shared if path.startswith(f"{layout.TOKENIZER}/"))
        if key not in cls._built:
            cls._built[key] = cls(Tokenizer(store.tokenizer_path))
        return cls._built[key]

    @cached_property
    def inexpressible(self) -> tuple[str, ...]:
        """Words that the tokenizer cannot write, for instance because it knows no ``&``: they never match."""
        sequences = [_ids(self._backend, word) for word in self.words]
        labels_BT = torch.full((len(sequences), max(map(len, sequences), default=0)), IGNORED)
        for row_T, ids in zip(labels_BT, sequences, strict=True):
            row_T[: len(ids)] = torch.tensor(ids)
        found = self.find(labels_BT)
        row_C = found.token_C // (labels_BT.shape[1] + 1)
        written = set(zip(row_C[found.begins_C].tolist(), found.word_C[found.begins_C].tolist(), strict=True))
        return tuple(word for i, word in enumerate(self.words) if (i, self.same[i]) not in written)

    def mask(self, labels_BT: Tensor) -> Tensor:
        """Which label tokens are critical, bool [B, T] on the labels' device; `IGNORED` is padding.

        Labels are int64 ids of the tokenizer.
        """
        rows, width = labels_BT.shape
        token_C, word_C, _ = self.find(labels_BT)
        hit_M = torch.zeros(rows * (width + 1), dtype=torch.bool, device=labels_BT.device)
        hit_M[token_C[word_C >= 0]] = True
        return hit_M.view(rows, width + 1)[:, :-1]

    def find(self, labels_BT: Tensor) -> Found:
        """The words in labels [B, T]; token b * (T + 1) + t is ``labels_BT[b, t]``: each row ends with padding."""
        if labels_BT.device not in self._tables:
            self._tables[labels_BT.device] = self._tables[torch.device("cpu")].to(labels_BT.device)
        tables = self._tables[labels_BT.device]
        token_C, code_C = tables.spell(pad(labels_BT, (0, 1), value=IGNORED).flatten())
        if self._drops_spaces:
            kept_C = _kept(code_C)
            token_C, code_C = token_C[kept_C], code_C[kept_C]
        word_C, begins_C = tables.identifiers(code_C)
        tables.signs(code_C, word_C, begins_C)
        return Found(token_C, word_C, begins_C & (word_C >= 0))


@dataclass(frozen=True)
class Count:
    """Of a category, or of all: words, how many the tokenizer can write, matches, and label tokens that hold one.

    ``share`` is that of these tokens among all label tokens.
    """

    name: str
    description: str
    words: int
    expressible: int
    matches: int
    tokens: int
    share: float


@dataclass(frozen=True)
class Report:
    """Critical tokens among the labels of a store.

    ``label_tokens`` counts end tokens too. A token that holds words of two categories counts in both, but once in
    ``total``. ``never_matched``: words that the tokenizer can write, but no label holds.
    """

    rows: int
    label_tokens: int
    total: Count
    categories: tuple[Count, ...]
    inexpressible: tuple[str, ...]
    never_matched: tuple[str, ...]


def report(store: Store, advance: Callable[[int], None]) -> Report:
    """Count critical tokens in a store's labels, block by block; ``advance`` is told the rows of each.

    Raises
    ------
    CorruptStoreError
        A chunk or the tokenizer is damaged.
    EmptyInputError
        The store has no rows.
    MismatchError
        Its rows have no labels.
    ModelError
        The tokenizer cannot be loaded.
    """
    if "labels/values" not in store.schema.specs():
        raise MismatchError(f"Expected label tokens in {store.root}. Got none. Give a store of a generation task.")
    if store.rows == 0:
        raise EmptyInputError(f"Expected rows in {store.root}. Got an empty store.")
    critical = CriticalTokens.of(store)
    matches_W, tokens_G, hits = _count(store, critical, advance)
    missing, label_tokens = set(critical.inexpressible), store.manifest.label_tokens
    categories, first = [], 0
    for (name, category), tokens in zip(critical.database.categories.items(), tokens_G.tolist(), strict=True):
        matches = int(matches_W[first : first + len(category.words)].sum())
        expressible = sum(word not in missing for word in category.words)
        share = tokens / max(1, label_tokens)
        size = len(category.words)
        categories.append(Count(name, category.description, size, expressible, matches, tokens, share))
        first += size
    total = Count(
        "all", "All of them.", first, first - len(missing), int(matches_W.sum()), hits, hits / max(1, label_tokens)
    )
    unseen = (word for word, same in zip(critical.words, critical.same, strict=True) if not matches_W[same])
    never = tuple(word for word in unseen if word not in missing)
    return Report(store.rows, label_tokens, total, tuple(categories), critical.inexpressible, never)


def _count(store: Store, critical: CriticalTokens, advance: Callable[[int], None]) -> tuple[Tensor, Tensor, int]:
    """Of a store: matches of each word [W], tokens of each category [G], and critical tokens."""
    sizes = [len(category.words) for category in critical.database.categories.values()]
    category_W = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    matches_W, tokens_G, hits = torch.zeros_like(category_W), torch.zeros(len(sizes), dtype=torch.int64), 0
    for block in store.scan(["labels"]):
        labels_BT = _padded(block)
        token_C, word_C, begins_C = critical.find(labels_BT)
        inside_C = word_C >= 0
        holds_GM = torch.zeros(len(sizes), len(labels_BT) * (labels_BT.shape[1] + 1), dtype=torch.bool)
        holds_GM[category_W[word_C[inside_C]], token_C[inside_C]] = True
        matches_W += word_C[begins_C].bincount(minlength=len(matches_W))
        tokens_G += holds_GM.sum(1)
        hits += int(holds_GM.any(0).sum())
        advance(block.rows)
    return matches_W, tokens_G, hits


def _padded(block: Block) -> Tensor:
    """The labels of a block [B, T]."""
    length_B = block.arrays["labels/lengths"].astype(np.int64)
    labels_BT = np.full((block.rows, length_B.max(initial=0)), IGNORED, np.int64)
    labels_BT[np.arange(labels_BT.shape[1]) < length_B[:, None]] = block.arrays["labels/values"]
    return torch.from_numpy(labels_BT)


class _Words(NamedTuple):
    """Words of one kind as rows of characters, filled up with `_FILL`, in the order of their hashes."""

    code_WJ: Tensor
    hash_W: Tensor
    index_W: Tensor
    factor_J: Tensor

    @classmethod
    def of(cls, words: dict[str, int], width: int) -> Self:
        """Words of at most ``width`` characters and their numbers."""
        known = {"": -1, **words}  # so that there always is one
        code_WJ = torch.stack([pad(_codes(word), (0, width - len(word)), value=_FILL) for word in known])
        factor_J = torch.randint(1 << 62, (width,), generator=torch.Generator().manual_seed(0)) | 1
        hash_W, order_W = (code_WJ * factor_J).sum(1).sort()
        assert (hash_W.diff() != 0).all(), "two words have one 64-bit hash: change the seed"
        return cls(code_WJ[order_W], hash_W, torch.tensor(list(known.values()))[order_W], factor_J)

    def find(self, code_NJ: Tensor) -> Tensor:
        """The numbers of spelt words [N]; -1 where it is none. The hash only proposes: characters are compared."""
        at_N = torch.searchsorted(self.hash_W, (code_NJ * self.factor_J).sum(1)).clamp_(max=len(self.hash_W) - 1)
        return torch.where((self.code_WJ[at_N] == code_NJ).all(1), self.index_W[at_N], -1)


class _Tables(NamedTuple):
    """How ids are spelt, and the words; id v has the characters ``code_X[start_V[v] :][: size_V[v]]``.

    The last entry of ``start_V`` and ``size_V`` is that of padding.
    """

    code_X: Tensor
    start_V: Tensor
    size_V: Tensor
    identifier: _Words
    sign: _Words

    @classmethod
    def of(cls, spellings: list[str], words: dict[str, int]) -> Self:
        """From the text of every id, and the words with their numbers."""
        texts = [*spellings, _BREAK]
        size_V = torch.tensor([len(text) for text in texts])
        identifiers = {word: index for word, index in words.items() if is_identifier(word[0])}
        signs = {word: index for word, index in words.items() if word not in identifiers}
        # One character more than the longest has, so that what is longer differs.
        width = max(map(len, identifiers), default=0) + 1
        return cls(
            _codes("".join(texts)), size_V.cumsum(0) - size_V, size_V,
            _Words.of(identifiers, width), _Words.of(signs, LONGEST_SIGN),
        )  # fmt: skip

    def to(self, device: torch.device) -> "_Tables":
        """The same tables on another device."""
        code_X, start_V, size_V = (tensor.to(device) for tensor in self[:3])
        identifier, sign = (_Words(*(tensor.to(device) for tensor in words)) for words in self[3:])
        return _Tables(code_X, start_V, size_V, identifier, sign)

    def spell(self, labels_M: Tensor) -> tuple[Tensor, Tensor]:
        """The token and the code of every character."""
        ids_M = torch.where(labels_M == IGNORED, len(self.size_V) - 1, labels_M)
        size_M = self.size_V[ids_M]
        token_C = torch.arange(len(ids_M), device=ids_M.device).repeat_interleave(size_M)
        shift_M = self.start_V[ids_M] - (size_M.cumsum(0) - size_M)
        return token_C, self.code_X[torch.arange(len(token_C), device=ids_M.device) + shift_M[token_C]]

    def identifiers(self, code_C: Tensor) -> tuple[Tensor, Tensor]:
        """The word of every character, -1 outside of identifiers that are words, and where identifiers begin."""
        # The last character ends a row, so that what rolls over to the first one is no identifier either.
        inside_C = code_C >= _IDENTIFIER
        begins_C = inside_C & ~inside_C.roll(1)
        start_R, last_R = begins_C.nonzero()[:, 0], (inside_C & ~inside_C.roll(-1)).nonzero()[:, 0]
        place_RJ = start_R[:, None] + torch.arange(len(self.identifier.factor_J), device=code_C.device)
        spelt_RJ = torch.where(place_RJ <= last_R[:, None], code_C[place_RJ.clamp(max=len(code_C) - 1)], _FILL)
        word_C = torch.full_like(code_C, -1)
        word_C[inside_C] = self.identifier.find(spelt_RJ).repeat_interleave(last_R - start_R + 1)
        return word_C, begins_C

    def signs(self, code_C: Tensor, word_C: Tensor, begins_C: Tensor) -> None:
        """Add the words that are no identifiers, the longest first."""
        start_N = ((code_C < _IDENTIFIER) & (code_C > ord(" "))).nonzero()[:, 0]
        place_NJ = start_N[:, None] + torch.arange(LONGEST_SIGN, device=code_C.device)
        spelt_NJ = code_C[place_NJ.clamp(max=len(code_C) - 1)]
        for size in range(LONGEST_SIGN, 0, -1):
            spelt_NJ[:, size:] = _FILL
            found_N = self.sign.find(spelt_NJ)
            new_N = (found_N >= 0) & (word_C[start_N] < 0)
            for place_N in reversed(place_NJ[new_N, :size].unbind(1)):  # of two that overlap, each has its beginning
                word_C[place_N] = found_N[new_N]
            begins_C[start_N[new_N]] = True


def _codes(text: str) -> Tensor:
    """The code points of a text, int64 [X], those of identifier characters raised by `_IDENTIFIER`."""
    codes_X = np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.int64)
    letters, place_X = np.unique(codes_X, return_inverse=True)
    raised = [letter + _IDENTIFIER * is_identifier(chr(letter)) for letter in letters.tolist()]
    return torch.from_numpy(np.asarray(raised, np.int64)[place_X])


def _kept(code_C: Tensor) -> Tensor:
    """Without the spaces that a tokenizer puts beside punctuation: those that stand between letters, and the rest."""
    letter_C = code_C >= _IDENTIFIER
    for link in LINKS:
        letter_C &= code_C != ord(link) + _IDENTIFIER
    return (code_C != ord(" ")) | (letter_C.roll(1) & letter_C.roll(-1))


def _ids(backend: Any, text: str) -> list[int]:
    return list(backend(text, add_special_tokens=False).input_ids)


def _spellings(backend: Any) -> list[str]:
    """What every id adds to a text that goes before it, so that a space at its beginning is seen."""
    size = max(backend.get_vocab().values()) + 1
    before = _ids(backend, "a")[-1]
    start, *texts = backend.backend_tokenizer.decode_batch(
        [[before], *([before, token] for token in range(size))], skip_special_tokens=False
    )
    special = {token for token, added in backend.added_tokens_decoder.items() if added.special}
    special.update(backend.all_special_ids)
    return [_BREAK if token in special else text.removeprefix(start) for token, text in enumerate(texts)]
