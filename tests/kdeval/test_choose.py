"""Which metrics an evaluation computes."""

import pytest

from kdeval.choose import choose, closure
from kdeval.metrics import Context
from kdstore.errors import CapabilityError, ModelError, UnknownNameError

from ..encoders import sentence_encoder

CONTEXT = Context(embedding_model=sentence_encoder())
ALL = {"text", "tokens", "teacher_text", "teacher_signal"}


def names(chosen):
    return [metric.name for metric in chosen.metrics]


def test_order_is_as_asked_and_components_follow():
    chosen = choose(["f1", "code_quality", "bleu"], CONTEXT, ALL)
    assert names(chosen)[:3] == ["f1", "code_quality", "bleu"]
    assert {*names(chosen)[3:]} == {"codebleu", "ast_validity", "pans", "semantic_similarity", "token_accuracy"}


def test_closure_names_each_once():
    found = closure(["knowledge_retention", "f1", "f1"])
    assert len(found) == len(set(found))
    assert {"output_agreement", "code_quality", "codebleu"} <= {*found}


def test_what_lacks_its_inputs_is_left_out_with_the_reason():
    chosen = choose(["f1", "loss", "kl"], CONTEXT, {"text"})
    assert names(chosen) == ["f1"]
    assert "pass over the references" in str(chosen.left_out["loss"])
    assert "teacher's signal" in str(chosen.left_out["kl"])
    assert {("loss",), ("kl",)} == {tuple(names) for names in chosen.reasons().values()}


def test_what_stands_on_it_is_left_out_too():
    chosen = choose(["code_quality"], CONTEXT, {"text"})
    assert "code_quality" not in names(chosen)
    assert chosen.left_out["code_quality"] is chosen.left_out["token_accuracy"]


def test_a_model_that_is_not_there():
    context = Context(embedding_model="/nowhere/at-all")
    chosen = choose(["semantic_similarity", "f1", "code_quality"], context, ALL)
    assert "--embedding-model" in str(chosen.left_out["semantic_similarity"])
    assert "--embedding-model" in str(chosen.left_out["code_quality"])
    assert "f1" in names(chosen)
    with pytest.raises(ModelError, match="/nowhere/at-all"):
        choose(["semantic_similarity"], context, ALL, strict=True)


def test_strict_refuses_instead():
    with pytest.raises(CapabilityError, match="loss"):
        choose(["f1", "loss"], CONTEXT, {"text"}, strict=True)
    with pytest.raises(UnknownNameError, match="'bleu'"):
        choose(["bleau"], CONTEXT, ALL)


def test_retention_needs_the_teachers_quality():
    teacher = choose(["knowledge_retention"], CONTEXT, {"text", "tokens"})
    assert "code_quality" in names(teacher)
    assert "knowledge_retention" in teacher.left_out
    assert "knowledge_retention" in names(choose(["knowledge_retention"], CONTEXT, ALL, teacher))
    alone = choose(["knowledge_retention"], CONTEXT, ALL)
    assert "predictions of a teacher" in str(alone.left_out["knowledge_retention"])


def test_a_metric_that_cannot_be_made_is_tried_once():
    """Looking for a model on a hub that is not there takes a minute."""
    context = Context(embedding_model="/nowhere/at-all")
    teacher = choose(["semantic_similarity"], context, {"text"})
    chosen = choose(["semantic_similarity"], context, ALL, teacher)
    assert chosen.left_out["semantic_similarity"] is teacher.left_out["semantic_similarity"]


def test_instances_of_the_teacher_are_used_again():
    teacher = choose(["semantic_similarity"], CONTEXT, {"text"})
    assert choose(["semantic_similarity"], CONTEXT, ALL, teacher).metrics[0] is teacher.metrics[0]
