"""Critical tokens: the database, and masks against what regular expressions find in the text behind the labels."""

import json
import re
import shutil
import string
import time
from functools import cache
from importlib.resources import files

import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Fast
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from kdstore.cli import main as kdstore
from kdstore.encode.tokenizer import Tokenizer
from kdstore.errors import EmptyInputError, MismatchError, UsageError
from kdstore.schema import RaggedText, RaggedTokens, Schema
from kdstore.store.reader import Store
from kdtrain.cli import main as kdtrain
from kdtrain.critical_words import read_database
from kdtrain.models import tokenizer as byte_level
from kdtrain.stream.batch import IGNORED
from kdtrain.tokens import CriticalTokens, report

DATABASE = read_database()
WORDS = DATABASE.words
IDENTIFIERS = [word for word in WORDS if word[0].isalnum() or word[0] == "@"]
SIGNS = set(WORDS) - set(IDENTIFIERS)
SPECIAL = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
CATEGORIES = (
    "junit", "testng", "mocking", "logical", "exceptions", "collections", "strings", "numerics", "structure",
    "life_cycle", "domain",
)  # fmt: skip

CORPUS = [
    "assertEquals(1, list.size());",
    "assertTrue(map.isEmpty() && !set.contains(null));",
    "assertThat(a).isEqualTo(b);",
    "assertThrows(IOException.class, () -> my_size.get(0));",
    "verify(mock, times(2)).close();\n",
    "x != Integer.MAX_VALUE",
] * 4
ALPHABET = [chr(code) for code in range(32, 127)] + ["\n", "é", "▁"]


def _wrapped(fast, trainer, more=()):
    fast.train_from_iterator([*CORPUS, *more], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=fast, **SPECIAL)


def _metaspace(model, trainer, **settings):
    fast = Fast(model)
    fast.pre_tokenizer, fast.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    return _wrapped(
        fast,
        trainer(special_tokens=list(SPECIAL.values()), initial_alphabet=ALPHABET, show_progress=False, **settings),
    )


def _word_piece(lowercase):
    fast = Fast(models.WordPiece(unk_token="<unk>"))
    fast.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    fast.pre_tokenizer, fast.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=400, special_tokens=list(SPECIAL.values()), show_progress=False)
    # So that names can be cut anywhere; of signs it knows only those of the corpus.
    return _wrapped(fast, trainer, [f"{letter} a{letter}" for letter in string.ascii_letters + string.digits])


KINDS = {
    "byte-level BPE": lambda: byte_level.train(CORPUS, 330),
    "Metaspace BPE": lambda: _metaspace(models.BPE(unk_token="<unk>"), trainers.BpeTrainer, vocab_size=250),
    "Metaspace Unigram": lambda: _metaspace(
        models.Unigram(), trainers.UnigramTrainer, vocab_size=250, unk_token="<unk>"
    ),
    "WordPiece": lambda: _word_piece(lowercase=False),
    "WordPiece, lower case": lambda: _word_piece(lowercase=True),
}


@cache
def backend(kind):
    """A small tokenizer; Metaspace ones also learn sub-tokens that cross from words into signs."""
    return KINDS[kind]()


class _InMemory(Tokenizer):
    """A tokenizer that was not loaded from a directory."""

    def __init__(self, made):
        self.backend = made


@cache
def critical(kind):
    return CriticalTokens(_InMemory(backend(kind)))


def encode(kind, text):
    """The text's ids, which end with the end token, and the characters that each stands for."""
    fast = backend(kind)
    found = fast(text, add_special_tokens=False, return_offsets_mapping=True)
    return [*found.input_ids, fast.eos_token_id], [*found.offset_mapping, (0, 0)]


def words_in(text, known):
    """Where words begin in a text, and which."""
    found = [(match.start(), match[0]) for match in re.finditer(r"[\w$@]+", text) if match[0] in known]
    for size in (3, 2, 1):
        taken = {start + i for start, sign in found for i in range(len(sign))}
        starts = [i for i in range(len(text) - size + 1) if text[i : i + size] in SIGNS and i not in taken]
        found += [(i, text[i : i + size]) for i in starts]
    return sorted(found)


def expected(kind, text):
    """The mask of a text and the words in it, from the text itself."""
    ids, spans = encode(kind, text)
    fast = backend(kind)
    for token, (start, stop) in zip(ids, spans, strict=True):
        if token in fast.all_special_ids:  # an unknown character says nothing
            text = text[:start] + "\0" * (stop - start) + text[stop:]
    places = range(len(text))
    lower = str.lower if "lower" in kind else str
    if "WordPiece" in kind:  # keeps spaces between letters only
        places = [i for i in places if not text[i].isspace() or _between_letters(text, i)]
    found = words_in(lower("".join(text[i] for i in places)), set(map(lower, WORDS)))
    held = {places[i] for start, word in found for i in range(start, start + len(word))}
    pieces = fast.convert_ids_to_tokens(ids)
    mask = [
        bool(piece.strip("▁")) and not held.isdisjoint(range(*span))
        for piece, span in zip(pieces, spans, strict=True)
    ]
    return mask, [word for _, word in found]


def _between_letters(text, place):
    before, after = text[:place].rstrip()[-1:], text[place:].lstrip()[:1]
    return before.isalnum() and after.isalnum()


def padded(rows, width=None):
    width = max(map(len, rows), default=0) if width is None else width
    filled = [[*row, *[IGNORED] * (width - len(row))] for row in rows]
    return torch.tensor(filled, dtype=torch.int64).view(len(rows), width)


words = st.sampled_from(WORDS)
names = st.from_regex(r"[a-z_$][A-Za-z0-9_$]{0,5}", fullmatch=True)
longer = st.tuples(names | st.just(""), st.sampled_from(IDENTIFIERS), names | st.sampled_from(["", "1", "_", "é"]))
texts = st.from_regex(r'"[ -~]{0,8}"', fullmatch=True)
glue = st.sampled_from(["", "", " ", "  ", "\n", "(", "())", ".", ", ", "!"])
pieces = st.one_of(words, words, names, longer.map("".join), texts, st.integers(0, 99).map(str))
statements = st.lists(st.tuples(glue, pieces).map("".join), min_size=1, max_size=12).map("".join)
kinds = st.sampled_from(sorted(KINDS))


def test_there_are_eleven_categories_and_no_word_stands_twice():
    assert tuple(DATABASE.categories) == CATEGORIES
    assert len(WORDS) == len(set(WORDS)) >= 330
    assert all(category.words and category.description for category in DATABASE.categories.values())
    assert {"assertEquals", "!=", "null", "new", "(", ";", "@BeforeEach", "isEmpty", "IOException"} <= set(WORDS)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("[junit]", "[junit5]"), "Field required"),
        (("[junit]", "[more]\ndescription = 'x'\nwords = ['x']\n[junit]"), "Extra inputs"),
        (('"assertAll"', '"assertTrue"'), "'assertTrue' stands in junit and in junit"),
        (('"assertAll"', '"size"'), "'size' stands in junit and in domain"),
        (('"assertAll"', '""'), "junit.words"),
        (('"assertAll"', '"assert all"'), "junit.words"),
        (('"assertAll"', '"fail()"'), "'fail()' is neither"),
        (('"assertAll"', "7"), "valid string"),
        (("words = [", "words = "), "valid TOML"),
    ],
)
def test_a_broken_database_is_refused_in_one_line(change, said, tmp_path):
    text = files("kdtrain").joinpath("critical_tokens.toml").read_text(encoding="utf-8")
    path = tmp_path / "words.toml"
    path.write_text(text.replace(*change, 1), encoding="utf-8")
    with pytest.raises(UsageError, match=re.escape(said)) as error:
        read_database(path)
    assert len(str(error.value).splitlines()) == 1


@given(kinds, statements)
def test_a_mask_is_what_the_text_says(kind, text):
    ids, _ = encode(kind, text)
    mask, lexed = expected(kind, text)
    assert critical(kind).mask(padded([ids])).tolist() == [mask]
    found = critical(kind).find(padded([ids]))
    lower = str.lower if "lower" in kind else str
    assert [lower(WORDS[i]) for i in found.word_C[found.begins_C].tolist()] == lexed


@given(kinds, st.lists(statements, max_size=6), st.randoms(use_true_random=False), st.integers(0, 5))
def test_rows_are_independent_of_each_other_their_order_and_padding(kind, rows, random, more):
    sequences = [encode(kind, text)[0] for text in rows]
    random.shuffle(sequences)
    width = max(map(len, sequences), default=0) + more
    mask_BT = critical(kind).mask(padded(sequences, width))
    assert mask_BT.dtype == torch.bool
    assert mask_BT.shape == (len(rows), width)
    for row_T, ids in zip(mask_BT, sequences, strict=True):
        assert row_T[: len(ids)].tolist() == critical(kind).mask(padded([ids]))[0].tolist()
        assert not row_T[len(ids) :].any()


@given(kinds, statements, st.data())
def test_padding_between_tokens_ends_words(kind, text, data):
    """Also where labels are cut: what is left of a word is none, unless it is one itself."""
    ids, _ = encode(kind, text)
    cut = data.draw(st.integers(0, len(ids)))
    whole = critical(kind).mask(padded([[*ids[:cut], IGNORED, *ids[cut:]]]))[0].tolist()
    halves = [critical(kind).mask(padded([part]))[0].tolist() for part in (ids[:cut], ids[cut:])]
    assert whole == [*halves[0], False, *halves[1]]


@pytest.mark.parametrize("kind", KINDS)
def test_words_that_are_cut_are_found_and_longer_names_are_not(kind):
    def hits(text):
        ids, _ = encode(kind, text)
        mask = critical(kind).mask(padded([ids]))[0].tolist()
        return [piece for piece, hit in zip(backend(kind).convert_ids_to_tokens(ids), mask, strict=True) if hit]

    assert len(hits("assertTimeoutPreemptively")) > 1  # in none of the texts that it was made of
    assert hits("assertEqualsFoo") == hits("my_size") == hits("size1") == hits("</s>") == []
    assert "".join(hits("a->b")).replace("#", "").strip("▁Ġ") == "->"


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_tokenizer_cannot_write_is_named(kind):
    """Words with characters that the corpus of a word piece tokenizer lacks; all others can be written."""
    written = {word for word in WORDS if backend(kind).unk_token_id not in encode(kind, word)[0]}
    assert set(WORDS) - set(critical(kind).inexpressible) == written
    assert ("@Before" in critical(kind).inexpressible) == ("WordPiece" in kind)
    assert "assertEquals" in written


def test_a_batch_takes_less_than_a_training_step_notices():
    """Generous: on one idle core it takes about 1 ms."""
    ids = [token for text in CORPUS for token in encode("byte-level BPE", text)[0]]
    labels_BT = torch.tensor((ids * 40)[: 16 * 128]).view(16, 128)
    critical("byte-level BPE").mask(labels_BT)
    start = time.perf_counter()
    for _ in range(20):
        critical("byte-level BPE").mask(labels_BT)
    assert (time.perf_counter() - start) / 20 < 0.02


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_masks_on_a_cuda_device_are_those_of_the_cpu():
    for kind in KINDS:
        labels_BT = padded([encode(kind, text)[0] for text in CORPUS])
        mask_BT = critical(kind).mask(labels_BT.cuda())
        assert mask_BT.is_cuda
        assert torch.equal(mask_BT.cpu(), critical(kind).mask(labels_BT))


@pytest.fixture(scope="module")
def store(tokenizer_dir, tmp_path_factory):
    """A store of assertions in several blocks; its tokenizer is the byte-level one of the tests beside."""
    root = tmp_path_factory.mktemp("tokens")
    rows = [
        {"focal_method": f"int f{i}()", "test_method": f"void t{i}()", "assertion": text}
        for i, text in enumerate(CORPUS[:5] * 5)
    ]
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    arguments = [root / "rows.jsonl", "--tokenizer", tokenizer_dir, "--out", root / "a.kd", "--block-rows", 8]
    result = CliRunner().invoke(kdstore, ["build", *map(str, arguments)])
    assert result.exit_code == 0, result.stderr
    return Store(root / "a.kd")


def test_a_report_counts_what_the_texts_hold(store):
    rows = []
    found = report(store, rows.append)
    lexed = [word for text in CORPUS[:5] * 5 for _, word in words_in(text, set(WORDS))]
    assert sum(rows) == found.rows == 25
    assert len(rows) == 4
    for count in found.categories:
        category = DATABASE.categories[count.name]
        assert count.words == count.expressible == len(category.words)
        assert count.matches == sum(word in category.words for word in lexed)
        assert count.share == count.tokens / found.label_tokens
    tokens = [block.row(index)["labels"] for block in store.scan(["labels"]) for index in range(block.rows)]
    masks = [CriticalTokens.of(store).mask(torch.tensor([ids.tolist()])) for ids in tokens]
    assert found.label_tokens == sum(map(len, tokens))
    assert found.total.tokens == sum(int(mask.sum()) for mask in masks)
    assert found.total.matches == len(lexed)
    assert set(found.never_matched) == set(WORDS) - set(lexed)
    assert found.inexpressible == ()


def test_a_tokenizer_is_looked_at_once(store, tmp_path):
    copy = Store(shutil.copytree(store.root, tmp_path / "copy.kd"))
    assert CriticalTokens.of(copy) is CriticalTokens.of(store)


def test_the_command(store):
    shown = CliRunner().invoke(kdtrain, ["tokens", str(store.root)])
    assert shown.exit_code == 0, shown.stderr
    values = json.loads(CliRunner().invoke(kdtrain, ["tokens", str(store.root), "--json"]).stdout)
    assert [category["name"] for category in values["categories"]] == list(CATEGORIES)
    for count in (*values["categories"], values["total"]):
        row = next(line for line in shown.stdout.splitlines() if re.search(rf"\W{count['name']}\W", line))
        numbers = [f"{count[key]:,}" for key in ("words", "expressible", "matches", "tokens")]
        assert re.findall(r"[\d.,]+%?", row) == [*numbers, f"{count['share']:.1%}"]
    assert f"never matched ({len(values['never_matched'])}): " in shown.stdout
    assert "not expressible" not in shown.stdout


def test_a_store_without_rows_or_labels_is_refused(make_store, tmp_path):
    empty = make_store(tmp_path / "empty.kd", 0, codec=None)
    with pytest.raises(EmptyInputError, match="Got an empty store"):
        report(empty, lambda rows: None)
    schema = Schema(fields=(RaggedText(name="id"), RaggedTokens(name="input_ids", dtype="uint16")))
    bare = make_store(tmp_path / "bare.kd", 4, codec=None, schema=schema)
    with pytest.raises(MismatchError, match="Expected label tokens"):
        report(bare, lambda rows: None)
    result = CliRunner().invoke(kdtrain, ["tokens", str(tmp_path / "none.kd")])
    assert result.exit_code == 5
    assert len(result.stderr.splitlines()) == 1
