"""A model with its loss: every component moves it, padding does not, and what it writes has the right gradient."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from kdstore.parsing import ParserPool
from kdstore.store.manifest import TokenizerRecord
from kdtrain.losses import LOSSES
from kdtrain.models import seq2seq
from kdtrain.models.sampling import sample_key
from kdtrain.policy import Policy
from kdtrain.stream.batch import Batch
from kdtrain.stream.config import LoaderConfig
from kdtrain.stream.loader import Loader
from kdtrain.stream.order import OrderConfig
from kdtrain.student import Step, Student

END = 1


def t5(vocab_size, **options):
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=vocab_size, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, dropout_rate=0.0,
        decoder_start_token_id=0, pad_token_id=0, eos_token_id=END, **options,
    )  # fmt: skip
    return T5ForConditionalGeneration(config)


@pytest.fixture(scope="module")
def store(make_store, tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("student") / "a.kd", 48, codec="dense", codec_config={"dtype": "f32"})


@pytest.fixture
def loader(store):
    return Loader(store, LoaderConfig(12, OrderConfig(3), signal=True, embeddings=("mini",)))


@pytest.fixture(scope="module")
def parsers():
    with ParserPool() as pool:
        yield pool


def student_of(store, names, parsers, model=None):
    torch.manual_seed(1)
    model = model or t5(store.head.vocab_size)
    tokenizer = AutoTokenizer.from_pretrained(store.tokenizer_path)
    policy = Policy(tokenizer, store.head.tokenizer, 6, parsers)
    columns = {name: ("mini", 4) for name in names if LOSSES.get(name).needs_embedding}
    return Student(model, names, columns, policy)


def step_of(loader, batch, coefficients, rows=0):
    keys = [sample_key(0, 0, one) for one in loader.sample_ids(batch, rows)]
    return Step(coefficients, 2.0, loader.codec, keys)


@pytest.mark.parametrize("name", LOSSES.names())
def test_every_component_moves_the_student(name, store, loader, parsers):
    student, batch = student_of(store, [name], parsers), next(iter(loader))
    batch = replace(batch, embeddings={"mini": torch.randn(batch.rows, 4)})  # the store's all have one direction
    # Of so many samples of a random model some differ from its greedy output in whether they parse.
    if name == "ast":
        student.policy._texts = lambda labels_BT: ["a();" if row[0] % 2 else "a(" for row in labels_BT.tolist()]
    out = student(batch, step_of(loader, batch, {name: 1.0}, rows=12))
    out.total.backward()
    moved = {path for path, p in student.model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 1e-9}
    assert any(path.startswith("encoder.block") for path in moved)
    if LOSSES.get(name).needs_embedding:
        assert not any(path.startswith("decoder.block") for path in moved)
    else:
        assert any(path.startswith("decoder.block") for path in moved)


@pytest.mark.parametrize("name", [name for name in LOSSES.names() if name not in ("ast", "contrastive")])
def test_padding_and_the_way_rows_are_batched_change_nothing(name, store, parsers):
    student, found = student_of(store, [name], parsers), []
    for rows, last in ((12, "uneven"), (5, "uneven"), (5, "pad")):
        config = LoaderConfig(rows, OrderConfig(3, shuffle=False), signal=True, embeddings=("mini",), last=last)
        loader = Loader(store, config)
        student.zero_grad()
        total = 0.0
        for batch in loader:
            out = student(batch, step_of(loader, batch, {name: 1.0}))
            out.total.backward()
            total += float(out.components[name])
        found.append((total, torch.cat([p.grad.flatten() for p in student.parameters() if p.grad is not None])))
    for total, gradient in found[1:]:
        assert total == pytest.approx(found[0][0], rel=1e-5)
        torch.testing.assert_close(gradient, found[0][1], rtol=1e-3, atol=1e-5)


def test_the_states_are_those_that_the_model_s_own_head_reads(store, loader):
    """T5 scales what a tied head is given."""
    model, batch = t5(store.head.vocab_size).eval(), next(iter(loader))
    inputs = {"input_ids": batch.input_ids_BS, "attention_mask": batch.attention_mask_BS}
    states = seq2seq.states(model, batch.labels_BT, **inputs)
    expected = model(**inputs, labels=batch.labels_BT)
    torch.testing.assert_close(seq2seq.linear_head(model)(states.decoder_BTD), expected.logits)
    torch.testing.assert_close(states.encoder_BSD, expected.encoder_last_hidden_state)


def test_weights_of_tokens_reach_the_labels(store, loader, parsers):
    student, batch = student_of(store, ["ce", "kl"], parsers), next(iter(loader))
    plain = student(batch, step_of(loader, batch, {"ce": 1.0, "kl": 1.0})).components
    doubled = Step({"ce": 1.0, "kl": 1.0}, 2.0, loader.codec, (), 2 * torch.ones(batch.labels_BT.shape))
    out = student(batch, doubled).components
    torch.testing.assert_close(out["ce"], 2 * plain["ce"])
    assert out["kl"] == plain["kl"]


def outputs_of(vocab_size, longest):
    """Every output of at most so many ids: ended by the end token, or cut."""
    others = [token for token in range(vocab_size) if token != END]
    for length in range(longest):
        for body in product(others, repeat=length):
            yield [*body, END]
    yield from (list(body) for body in product(others, repeat=longest))


class FirstIdDecides(Policy):
    """Texts of one letter: what starts with id 2 or 3 does not parse."""

    def _texts(self, labels_BT):
        return ["(" if row[0] in (2, 3) else "a();" for row in labels_BT.tolist()]


def test_the_expected_gradient_of_ast_is_that_of_the_expected_invalidity(parsers):
    """All outputs of a tiny vocabulary are enumerated, with their probabilities; nothing is drawn."""
    vocab_size, longest = 4, 2
    model = t5(vocab_size)
    with torch.no_grad():
        model.lm_head.weight.mul_(4)
    ids = TokenizerRecord(sha256="0" * 64, vocab_size=vocab_size, pad_id=0, eos_id=END, decoder_start_id=0)
    student = Student(model, ["ast"], {}, FirstIdDecides(None, ids, longest, parsers))
    input_ids, mask = torch.tensor([[2, 3, END]]), torch.ones(1, 3, dtype=torch.long)
    parameters = [p for p in model.parameters() if p.requires_grad]

    def log_probability(labels):
        labels_BT = torch.tensor([labels])
        states = seq2seq.states(model, labels_BT, input_ids=input_ids, attention_mask=mask)
        log_q_TV = torch.log_softmax(seq2seq.linear_head(model)(states.decoder_BTD[0]), -1)
        return log_q_TV.gather(-1, labels_BT[0][:, None]).sum(), states

    expected = found = None
    outputs, chances = list(outputs_of(vocab_size, longest)), []
    for labels in outputs:
        log_p, _ = log_probability(labels)
        chances.append(float(log_p.exp().detach()))
        if labels[0] in (2, 3):
            expected = log_p.exp() if expected is None else expected + log_p.exp()
    assert sum(chances) == pytest.approx(1, abs=1e-5)
    exact = torch.autograd.grad(expected, parameters, allow_unused=True)
    greedy = 1.0 if outputs[max(range(len(outputs)), key=chances.__getitem__)][0] in (2, 3) else 0.0
    for labels, chance in zip(outputs, chances, strict=True):
        advantage = float(labels[0] in (2, 3)) - greedy
        if not advantage:
            continue
        _, states = log_probability(labels)
        score = student.policy._score(
            model, BaseModelOutput(last_hidden_state=states.encoder_BSD), mask,
            torch.tensor([labels]), torch.tensor([advantage]),
        )  # fmt: skip
        gradients = torch.autograd.grad(score, parameters, allow_unused=True)
        scaled = [None if one is None else chance * one for one in gradients]
        found = scaled if found is None else [a if b is None else a + b for a, b in zip(found, scaled, strict=True)]
    for ours, theirs in zip(found, exact, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


def test_the_gradient_of_samples_is_that_of_the_expected_invalidity(parsers):
    """Over many samples, drawn as training draws them: its direction, sign and size."""
    vocab_size, rows = 6, 600
    model = t5(vocab_size)
    with torch.no_grad():
        model.lm_head.weight.div_(4)  # no id is nearly certain
    ids = TokenizerRecord(sha256="0" * 64, vocab_size=vocab_size, pad_id=0, eos_id=END, decoder_start_id=0)
    policy = FirstIdDecides(None, ids, 2, parsers)
    Student(model, ["ast"], {}, policy)
    input_ids, mask = torch.tensor([[2, 3, END]]), torch.ones(1, 3, dtype=torch.long)
    states = seq2seq.states(model, torch.tensor([[2]]), input_ids=input_ids, attention_mask=mask)
    q_V = torch.softmax(seq2seq.linear_head(model)(states.decoder_BTD[0, 0]), -1)
    (exact_VD,) = torch.autograd.grad(q_V[2] + q_V[3], model.lm_head.weight, retain_graph=True)
    batch = Batch(
        input_ids.expand(rows, -1), mask.expand(rows, -1), torch.full((rows, 1), 2), torch.full((rows,), 2), {}, {},
        np.zeros((rows, 3), np.int64),
    )  # fmt: skip
    out = policy.loss(model, batch, states.encoder_BSD.expand(rows, -1, -1), range(rows), LOSSES.get("ast")())
    (found_VD,) = torch.autograd.grad(out.total / rows, model.lm_head.weight)
    share = float(q_V.detach()[2:].sum()) - float(q_V.detach()[4:].sum())
    assert 0.1 < share < 0.9
    assert out.components["ast"].item() / rows == pytest.approx(share, abs=3 * (share * (1 - share) / rows) ** 0.5)
    assert torch.nn.functional.cosine_similarity(found_VD.flatten(), exact_VD.flatten(), dim=0) > 0.8
    assert float(found_VD.norm()) == pytest.approx(float(exact_VD.norm()), rel=0.4)


def test_samples_are_keyed_and_their_value_is_logged(store, loader, parsers):
    student, batch = student_of(store, ["ast"], parsers), next(iter(loader))
    student.policy._texts = lambda labels_BT: ["a();" if sum(row) % 3 else "a(" for row in labels_BT.tolist()]
    one, again = (student(batch, step_of(loader, batch, {"ast": 0.5}, rows=5)) for _ in range(2))
    assert one.components == again.components
    assert one.total.item() == pytest.approx(0.5 * one.components["ast"].item())
    assert 0 <= one.components["ast"].item() <= 5
    with torch.no_grad():
        assert student(batch, step_of(loader, batch, {"ast": 0.5}, rows=5)).components == one.components


def test_steepness_is_the_norm_of_each_parts_gradient(store, loader, parsers):
    """Against plain logits and autograd: by what the output layer is given, and by what the encoder says."""
    student, batch = student_of(store, ["ce", "semantic", "ast"], parsers), next(iter(loader))
    found = student.steepness(batch, step_of(loader, batch, {"ce": 0.7, "semantic": 3.0, "ast": 0.1}, rows=4))
    assert found.keys() == {"ce", "semantic", "ast"}
    assert all(parameter.grad is None for parameter in student.parameters())

    seen = []
    head = student.head.register_forward_pre_hook(lambda layer, args: seen.append(args[0]))
    outputs = student.model(**batch.model_inputs())
    head.remove()
    outputs.encoder_last_hidden_state.retain_grad()
    seen[0].retain_grad()
    (0.7 * outputs.loss * batch.label_tokens).backward()
    norms = [float(states.grad.norm()) for states in (seen[0], outputs.encoder_last_hidden_state)]
    assert found["ce"] == pytest.approx(norms, rel=1e-4)

    by_decoder, by_encoder = found["semantic"]
    assert by_decoder is None
    encoder_BSD = student.model.get_encoder()(batch.input_ids_BS, batch.attention_mask_BS).last_hidden_state
    encoder_BSD.retain_grad()
    mask_BS1 = batch.attention_mask_BS[:, :, None]
    pooled_BD = (encoder_BSD * mask_BS1).sum(1) / mask_BS1.sum(1)
    (3.0 * student.losses["semantic"](pooled_BD, batch.embeddings["mini"].float())).backward()
    assert by_encoder == pytest.approx(float(encoder_BSD.grad.norm()), rel=1e-4)
