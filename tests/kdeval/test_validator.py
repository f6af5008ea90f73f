"""The metrics during training are those of an evaluation: the same texts, the same numbers."""

import time

import pytest
import torch
from transformers import AutoTokenizer, T5ForConditionalGeneration

from kdeval.metrics import METRICS
from kdeval.results import PREDICTIONS, Settings, read_predictions
from kdeval.run import evaluate
from kdeval.samples import Sample
from kdeval.validator import JavaValidator
from kdstore.errors import EmptyInputError, MismatchError, UnknownNameError
from kdstore.store.reader import Store
from kdtrain.models.writing import write
from kdtrain.stream.config import LoaderConfig
from kdtrain.stream.loader import Loader
from kdtrain.stream.order import OrderConfig
from kdtrain.student import Student
from kdtrain.validators import VALIDATORS

from .conftest import OUTPUT_TOKENS, ROWS, write_store

CHEAP = ("exact_match", "f1", "bleu")
ALL = ("exact_match", "f1", "bleu", "line_f1", "codebleu", "pans", "edit_similarity", "ast_validity")
LEVEL = "a<b> c = x -> {"
ENDLESS = f"{LEVEL * 40}]{'};' * 40}"  # javalang has 2 ** 40 attempts at it
PAIRS = [
    ("assertTrue(a);", "assertTrue(a);"),
    ("assertEquals(1, list.size());", "assertEquals(2, list.size());"),
    ("assertNull(b);\nassertTrue(a);", "assertNull(b);"),
    ("assertNull(", "assertNull(c);"),
    ("", "fail();"),
]


def validation(store: Store, batch_rows: int = 5) -> Loader:
    """Rows in the store's order, as training reads validation rows."""
    order = OrderConfig(0, shuffle=False)
    return Loader(store, LoaderConfig(batch_rows=batch_rows, order=order, signal=False), torch.device("cpu"))


@pytest.fixture
def student(world):
    """The evaluated model in training, and its tokenizer: a distillation head, dropout on."""
    model = T5ForConditionalGeneration.from_pretrained(world.model)
    return Student(model, ["ce"], {}).train().model, AutoTokenizer.from_pretrained(world.model)


@pytest.mark.parametrize(("enhanced", "names"), [(False, CHEAP), (True, ALL)])
def test_it_is_found_by_name_and_says_its_metrics(enhanced: bool, names: tuple[str, ...]) -> None:
    validator = VALIDATORS.get("java")(enhanced)
    assert isinstance(validator, JavaValidator)
    assert validator.names == names
    assert tuple(validator.score(["f();"], ["f();"])) == names


def test_an_unknown_validator_is_answered_with_a_near_one() -> None:
    with pytest.raises(UnknownNameError, match=r"known validator\. Got 'jav'\. Did you mean 'java'\?"):
        VALIDATORS.get("jav")


def test_numbers_are_those_of_the_metrics() -> None:
    found = JavaValidator(enhanced=True).score(*zip(*PAIRS, strict=True))
    samples = [Sample("", "", reference, prediction) for prediction, reference in PAIRS]
    expected = {name: METRICS.get(name)().score(samples)[name] for name in ALL}
    assert found == expected
    low, high = (JavaValidator(enhanced=True).score([text] * 2, ["fail();"] * 2) for text in ("x y", "fail();"))
    assert all(low[name] < found[name] < high[name] for name in ALL)


def test_a_text_that_stops_javalang_is_invalid_and_what_is_equal_is_parsed_once() -> None:
    start = time.monotonic()
    found = JavaValidator(enhanced=True).score(["f();", *[ENDLESS] * 9], ["f();"] * 10)
    assert found["ast_validity"] == 0.1
    assert time.monotonic() - start < 20, "5 seconds, once"


def test_texts_that_cannot_be_scored_are_refused_with_one_line() -> None:
    with pytest.raises(EmptyInputError, match=r"^Expected texts to score\. Got none\. .+\.$"):
        JavaValidator(enhanced=False).score([], [])
    with pytest.raises(MismatchError, match=r"^Expected a reference for each of 2 predictions\. Got 1\. .+\.$"):
        JavaValidator(enhanced=False).score(["a", "b"], ["a"])


@pytest.mark.parametrize("limit", [None, 12])
def test_a_student_scores_in_training_as_in_an_evaluation(world, student, evaluated, tmp_path, limit) -> None:
    model, tokenizer = student
    results = evaluated(metrics=list(ALL), limit=limit)
    with torch.autocast("cpu", torch.bfloat16):  # as training may run; an evaluation is in float32
        written, references = write(model, tokenizer, validation(Store(world.store)), OUTPUT_TOKENS, limit or ROWS)
    assert written == [sample.prediction for sample in read_predictions(tmp_path / "run" / PREDICTIONS)]
    assert len(set(written)) > 1
    assert references == world.assertions[:limit]
    found = JavaValidator(enhanced=True).score(written, references)
    assert found == {name: results.metrics[name].value for name in ALL}


def test_the_models_own_generation_config_counts_as_in_an_evaluation(world, student, tmp_path) -> None:
    model, tokenizer = student
    plain, _ = write(model, tokenizer, validation(Store(world.store)), OUTPUT_TOKENS, 9)
    model.generation_config.update(no_repeat_ngram_size=1, num_beams=3)
    before = model.generation_config.to_dict()
    written, _ = write(model, tokenizer, validation(Store(world.store)), OUTPUT_TOKENS, 9)
    assert model.generation_config.to_dict() == before
    assert written != plain
    for one in (model, tokenizer):
        one.save_pretrained(tmp_path / "model")
    evaluate(tmp_path / "model", world.store, tmp_path / "run", Settings(device="cpu", limit=9), ["f1"])
    assert written == [sample.prediction for sample in read_predictions(tmp_path / "run" / PREDICTIONS)]


def test_references_are_whole_where_labels_are_cut(tokenizer, student, tmp_path) -> None:
    model, _ = student
    texts = ["assertEquals(1, list.size());", "  assertTrue( a );\n\n"] * 3
    store = Store(write_store(tmp_path / "cut.kd", tokenizer, ["a b"] * 6, texts, max_output_tokens=4))
    _, references = write(model, tokenizer, validation(store), 4, 6)
    assert references == texts
