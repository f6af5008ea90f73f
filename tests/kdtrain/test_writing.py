"""A student writes for validation rows, and nothing is other than before."""

import pytest
import torch
from transformers import AutoTokenizer, T5ForConditionalGeneration

from kdstore.errors import CapabilityError
from kdstore.store.reader import Store
from kdtrain.losses.fused import DistillationHead
from kdtrain.models.writing import reference_column, write
from kdtrain.stream.config import LoaderConfig
from kdtrain.stream.loader import Loader
from kdtrain.stream.order import OrderConfig
from kdtrain.student import Student

from ..kdeval.conftest import write_store

MAX_TOKENS = 8
TEXTS = [f"assertEquals({row},  list.size());" for row in range(23)]  # blocks of 8 in parts of 16


@pytest.fixture(scope="module")
def tokenizer(tokenizer_dir):
    return AutoTokenizer.from_pretrained(tokenizer_dir)


@pytest.fixture(scope="module")
def store(tokenizer, tmp_path_factory) -> Store:
    prompts = [f"int f() {{ return {row} * {row}; }}" for row in range(len(TEXTS))]
    return Store(write_store(tmp_path_factory.mktemp("texts") / "val.kd", tokenizer, prompts, TEXTS))


@pytest.fixture
def model(vocab_size):
    """A student of large random weights, which writes something else for every row; in training."""
    from transformers import T5Config

    torch.manual_seed(0)
    config = T5Config(
        vocab_size=vocab_size, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, dropout_rate=0.3,
        decoder_start_token_id=0, initializer_factor=4.0, tie_word_embeddings=False,
    )  # fmt: skip
    return Student(T5ForConditionalGeneration(config), ["ce"], {}).train().model


def loader(store: Store, **settings) -> Loader:
    order = OrderConfig(0, shuffle=settings.pop("shuffle", False))
    return Loader(store, LoaderConfig(order=order, signal=False, **settings), torch.device("cpu"))


@pytest.mark.parametrize("limit", [1, 7, 8, 20, 23, 1000])
def test_the_first_rows_are_written_whatever_the_batches(model, tokenizer, store, limit) -> None:
    assert isinstance(model.get_output_embeddings(), DistillationHead)
    found = [write(model, tokenizer, loader(store, batch_rows=rows), MAX_TOKENS, limit) for rows in (1, 4, 32)]
    assert found[0] == found[1] == found[2]
    written, references = found[0]
    assert references == TEXTS[:limit]
    assert len(written) == len(references)
    shorter, _ = write(model, tokenizer, loader(store, batch_rows=4), MAX_TOKENS // 2, limit)
    assert all(len(one) < len(other) for one, other in zip(shorter, written, strict=True))
    assert limit < 7 or len(set(written)) > 3


def test_references_are_those_of_the_rows_in_any_order(model, tokenizer, store) -> None:
    written, references = write(model, tokenizer, loader(store, batch_rows=5, shuffle=True), MAX_TOKENS, 23)
    assert references != TEXTS
    assert sorted(references) == sorted(TEXTS)
    expected, _ = write(model, tokenizer, loader(store, batch_rows=5), MAX_TOKENS, 23)
    assert [expected[TEXTS.index(text)] for text in references] == written


def test_nothing_is_left_behind(model, tokenizer, store) -> None:
    rows = loader(store, batch_rows=4)
    next(iter(rows))
    model.decoder.block[0].eval()
    modes = [module.training for module in model.modules()]
    own, settings = model.generation_config, model.generation_config.to_dict()
    place, random = rows.state_dict(), torch.get_rng_state()
    first, again = (write(model, tokenizer, rows, MAX_TOKENS, limit=6) for _ in range(2))
    assert first == again, "no dropout, and the same rows"
    assert first[1] == TEXTS[4:10]
    assert write(model, tokenizer, rows, MAX_TOKENS, limit=99)[1] == TEXTS[4:]
    assert rows.state_dict() == place
    assert [module.training for module in model.modules()] == modes
    assert model.generation_config is own
    assert own.to_dict() == settings
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.is_grad_enabled()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert [batch.rows for batch in rows] == [4, 4, 4, 4, 3], "what is left of the epoch"


def test_a_store_without_texts_is_refused_with_one_line(model, tokenizer, make_store, tmp_path) -> None:
    store = make_store(tmp_path / "val.kd", 8, codec=None)
    line = r"^Expected a validation store .+ Got none called text/assertion in \S+val\.kd\. Build it from .+\.$"
    with pytest.raises(CapabilityError, match=line):
        reference_column(store)
    with pytest.raises(CapabilityError, match=line):
        write(model, tokenizer, loader(store, batch_rows=4), MAX_TOKENS, 4)
