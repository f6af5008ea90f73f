"""Samples follow the model's own distribution, and depend on their key and their row alone."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM, GenerationConfig
from transformers.modeling_outputs import BaseModelOutput

from kdstore.store.manifest import TokenizerRecord
from kdtrain.models.sampling import sample_and_greedy, sample_key
from kdtrain.stream.batch import IGNORED

from ..random_t5 import save_random_t5

PAD, END, START = 0, 1, 0
FEW, MANY = 4, 500  # sizes of vocabularies
SHORT, LONG = 3, 12  # lengths of outputs


def record(vocab_size: int) -> TokenizerRecord:
    return TokenizerRecord(
        sha256="0" * 64, vocab_size=vocab_size, pad_id=PAD, eos_id=END, decoder_start_id=START
    )  # fmt: skip


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """A function that loads a random model with a vocabulary of this size, in training mode, with dropout."""
    paths = {
        size: save_random_t5(tmp_path_factory.mktemp("t5"), size, seed=3, dropout_rate=0.3, initializer_factor=factor)
        for size, factor in ((FEW, 1.0), (MANY, 3.0))
    }
    return lambda size: AutoModelForSeq2SeqLM.from_pretrained(paths[size]).train()


@pytest.fixture(scope="module")
def rows() -> tuple[Tensor, Tensor]:
    """Encoder states and mask of six rows of different lengths."""
    generator = torch.Generator().manual_seed(5)
    lengths_B1 = torch.tensor([[7], [3], [7], [1], [5], [6]])
    mask_BS = (torch.arange(7) < lengths_B1).long()
    return torch.randn(6, 7, 16, generator=generator), mask_BS


KEYS = [sample_key(1, 2, f"row {row}") for row in range(6)]


def draw(model, rows, keys=KEYS, max_tokens=LONG) -> tuple[Tensor, Tensor]:
    return sample_and_greedy(model, *rows, keys, max_tokens, record(model.config.vocab_size))


def listed(labels_BT: Tensor) -> list[list[int]]:
    """Each row without its padding."""
    return [[label for label in row if label != IGNORED] for row in labels_BT.tolist()]


def outputs_and_probabilities(model, states_1SD: Tensor, temperature: float) -> dict[tuple[int, ...], float]:
    """Every output of at most `SHORT` tokens, and how often the model says it."""
    others = [token for token in range(FEW) if token != END]
    outputs = [(*start, END) for length in range(SHORT) for start in itertools.product(others, repeat=length)]
    outputs += list(itertools.product(others, repeat=SHORT))
    said_NT = torch.tensor([[*output, *[0] * (SHORT - len(output))] for output in outputs])
    starts_NT = torch.cat([torch.full((len(outputs), 1), START), said_NT[:, :-1]], dim=1)
    encoded = BaseModelOutput(last_hidden_state=states_1SD.expand(len(outputs), -1, -1))
    with torch.no_grad():
        logits_NTV = model.eval()(encoder_outputs=encoded, decoder_input_ids=starts_NT).logits.double()
    log_probs_NT = (logits_NTV / temperature).log_softmax(-1).gather(-1, said_NT[..., None])[..., 0]
    return {
        output: log_probs_T[: len(output)].sum().exp().item()
        for output, log_probs_T in zip(outputs, log_probs_NT, strict=True)
    }


def excess(found: list[tuple[int, ...]], probabilities: dict[tuple[int, ...], float]) -> float:
    """The chi-square statistic in standard deviations above its mean; rare outputs count as one."""
    rare = {output for output, probability in probabilities.items() if probability * len(found) < 5}
    cells = [{output} for output in probabilities if output not in rare] + ([rare] if rare else [])
    statistic = 0.0
    for cell in cells:
        expected = len(found) * sum(probabilities[output] for output in cell)
        statistic += (sum(output in cell for output in found) - expected) ** 2 / expected
    return (statistic - (len(cells) - 1)) / (2 * (len(cells) - 1)) ** 0.5


def test_samples_are_distributed_as_the_full_softmax(load) -> None:
    model = load(FEW)
    states_1SD = torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(1))
    probabilities = outputs_and_probabilities(model, states_1SD, temperature=1.0)
    assert sum(probabilities.values()) == pytest.approx(1)
    many = (states_1SD.expand(4000, -1, -1), torch.ones(4000, 5, dtype=torch.long))
    sampled_BT, _ = draw(model, many, [sample_key(0, step, "a") for step in range(4000)], SHORT)
    found = [tuple(output) for output in listed(sampled_BT)]
    assert set(found) <= probabilities.keys()
    assert len({output for output in found if PAD in output}) > 3, "padding is an id like others"
    assert excess(found, probabilities) < 3
    assert excess(found, outputs_and_probabilities(model, states_1SD, temperature=1.2)) > 5, "the test can fail"


def test_a_sample_depends_on_its_row_and_key_alone(load, rows) -> None:
    states_BSD, mask_BS = rows
    model = load(MANY)
    expected = listed(draw(model, rows)[0])
    assert len({tuple(output) for output in expected}) == 6
    order = [4, 1, 5]
    wider = (torch.nn.functional.pad(states_BSD, (0, 0, 0, 3), value=9.0), torch.nn.functional.pad(mask_BS, (0, 3)))
    batch = (wider[0][order], wider[1][order])
    assert listed(draw(model, batch, [KEYS[row] for row in order])[0]) == [expected[row] for row in order]
    for other in (KEYS[3] ^ 1, KEYS[3] ^ (1 << 40)):
        changed = listed(draw(model, rows, [*KEYS[:3], other, *KEYS[4:]])[0])
        assert [row for row in range(6) if changed[row] != expected[row]] == [3]


def test_positions_of_an_output_have_noise_of_their_own(load, rows) -> None:
    states_BSD = torch.zeros_like(rows[0])
    outputs = listed(draw(load(MANY), (states_BSD, rows[1]))[0])
    assert max(len(set(output)) for output in outputs) > LONG / 2


def test_greedy_rows_are_the_models_own(load, rows) -> None:
    states_BSD, mask_BS = rows
    model = load(MANY)
    _, greedy_BT = draw(model, rows)
    encoded = BaseModelOutput(last_hidden_state=states_BSD)
    ids_BT = model.eval().generate(
        encoder_outputs=encoded, attention_mask=mask_BS, max_new_tokens=LONG, do_sample=False
    )  # fmt: skip
    expected = [list(itertools.takewhile(lambda token: token != END, row[1:])) for row in ids_BT.tolist()]
    assert [[token for token in output if token != END] for output in listed(greedy_BT)] == expected
    for output in listed(greedy_BT):
        assert END not in output[:-1]
        assert output[-1] == END or len(output) == LONG


def test_labels_are_as_wide_as_their_longest_row(load, rows) -> None:
    for labels_BT in draw(load(FEW), rows):
        assert labels_BT.dtype == torch.int64
        assert labels_BT.shape[1] == max(map(len, listed(labels_BT)))
        ends_BT = (labels_BT == END).long()
        assert torch.equal(labels_BT == IGNORED, ends_BT.cumsum(1) - ends_BT > 0)


def test_no_setting_of_the_model_changes_an_output(load, rows) -> None:
    model = load(MANY)
    expected = [listed(labels_BT) for labels_BT in draw(model, rows)]
    for settings in (
        {"do_sample": True, "temperature": 0.1, "top_k": 1},
        {"repetition_penalty": 5.0, "no_repeat_ngram_size": 1},
        {"forced_bos_token_id": 7, "forced_eos_token_id": END},
        {"suppress_tokens": list(range(2, MANY // 2))},
        {"begin_suppress_tokens": list(range(2, MANY // 2)), "bad_words_ids": [[token] for token in range(2, 90)]},
        {"min_new_tokens": LONG, "sequence_bias": [[[END], 50.0]]},
        {"num_beams": 3, "max_length": 2, "eos_token_id": [END, 7], "pad_token_id": 9, "decoder_start_token_id": 8},
        {"return_dict_in_generate": True, "output_scores": True, "use_cache": False},
    ):
        own = GenerationConfig(
            **{"eos_token_id": END, "pad_token_id": PAD, "decoder_start_token_id": START, **settings}
        )
        model.generation_config = own
        assert [listed(labels_BT) for labels_BT in draw(model, rows)] == expected, settings
        assert model.generation_config is own


def test_nothing_is_left_behind(load, rows) -> None:
    model = load(MANY)
    model.decoder.block[0].eval()
    modes = [module.training for module in model.modules()]
    own, states = model.generation_config, (torch.get_rng_state(), np.random.get_state()[1].copy())
    first, again = draw(model, rows), draw(model, rows)
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True)), "no dropout"
    with pytest.raises(ValueError, match="key"):
        draw(model, rows, [-1] * 6)
    assert [module.training for module in model.modules()] == modes
    assert model.generation_config is own
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert torch.is_grad_enabled()


def test_labels_can_be_trained_on(load, rows) -> None:
    model, states_BSD = load(MANY), rows[0].clone().requires_grad_()
    sampled_BT, _ = draw(model, (states_BSD, rows[1]))
    model(encoder_outputs=BaseModelOutput(last_hidden_state=states_BSD), labels=sampled_BT).loss.backward()
    assert states_BSD.grad is not None


def test_keys_are_stable_and_differ() -> None:
    assert sample_key(0, 0, "") == 5032951268506741409
    keys = {
        sample_key(seed, step, name)
        for seed in (0, 1, 11)
        for step in (0, 1, 11)
        for name in ("", "0", "1", "11", "é")
    }
    assert len(keys) == 45
    assert all(0 <= key < 1 << 63 for key in keys)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_samples_equal_those_on_the_cpu(load, rows) -> None:
    model = load(MANY)
    expected = [listed(labels_BT) for labels_BT in draw(model, rows)]
    found = draw(model.cuda(), [values.cuda() for values in rows])
    assert all(labels_BT.is_cuda for labels_BT in found)
    assert [listed(labels_BT) for labels_BT in found] == expected
