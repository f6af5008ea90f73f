"""The tokenizer that a teacher from scratch learns."""

from hypothesis import given
from hypothesis import strategies as st

from kdtrain.models.tokenizer import train

TEXTS = ["assertEquals(1, list.size());", "assertTrue(list.isEmpty());"] * 5
TOKENIZER = train(TEXTS, 290)


def test_equal_texts_give_an_equal_tokenizer():
    assert train(iter(TEXTS), 290).backend_tokenizer.to_str() == TOKENIZER.backend_tokenizer.to_str()


def test_special_ids_are_those_of_t5():
    assert TOKENIZER.convert_tokens_to_ids(["<pad>", "</s>", "<unk>"]) == [0, 1, 2]
    assert len(TOKENIZER) <= 290


@given(st.text())
def test_any_text_survives(text):
    ids = TOKENIZER(text, split_special_tokens=True).input_ids
    assert ids[-1] == 1
    assert TOKENIZER.decode(ids[:-1]) == text
