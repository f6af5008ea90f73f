"""Responses of OpenAI-style servers: every form, the real samples, and answers that contradict themselves."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from kdstore.store.reader import Store

from .conftest import Run
from .test_import_predecessor import error_line

SAMPLES = Path(__file__).parents[3] / "shared" / "data" / "logits"
KNOWN = ("--temperature", 1, "--tail", "leftover")
PROMPT, ANSWER = "public int getA3()", " { return values[7]; }"
TOP = 5
Json = dict[str, Any]


@pytest.fixture(scope="module")
def backend(teacher: Path) -> Any:
    return AutoTokenizer.from_pretrained(teacher)


@pytest.fixture(scope="module")
def scores(backend: Any) -> Callable[[int, int], dict[int, float]]:
    """Log-probabilities of the likeliest ids at a position, and of the token itself.

    Parts of characters are unlikely: all of them have the same text, so that text forms cannot name them.
    """
    parts = [token for token in range(400) if "\ufffd" in backend.decode([token])]

    def at(position: int, token: int) -> dict[int, float]:
        logits = np.random.default_rng(position).normal(size=400) * 3
        logits[parts] -= 30
        logits[token] += 4
        log_probs = logits - np.log(np.exp(logits).sum())
        best = [token, *np.argsort(-log_probs)[:TOP].tolist()]
        return {token: float(log_probs[token]) for token in dict.fromkeys(best)}

    return at


@pytest.fixture(scope="module")
def ids(backend: Any) -> tuple[list[int], list[int]]:
    """Ids of the prompt, with its end token, and of the answer."""
    return backend(PROMPT).input_ids, backend(ANSWER).input_ids[:-1]


@pytest.fixture(scope="module")
def forms(backend: Any, scores: Any, ids: Any) -> dict[str, Json]:
    """One response in every form that servers write."""
    prompt, answer = ids
    texts = {token: backend.decode([token]) for token in range(len(backend))}
    at = [scores(position, token) for position, token in enumerate(answer)]
    usage = {"prompt_tokens": len(prompt), "completion_tokens": len(answer), "total_tokens": len(prompt + answer)}
    request = {"model": "m", "prompt": PROMPT}

    def chat(name: Callable[[int], str]) -> Json:
        content = [
            {"token": name(token), "logprob": found[token], "bytes": list(texts[token].encode()), "top_logprobs": [
                {"token": name(other), "logprob": value, "bytes": []} for other, value in found.items()
            ]}
            for token, found in zip(answer, at, strict=True)
        ]  # fmt: skip
        message = {"role": "assistant", "content": ANSWER}
        return {"id": "c", "model": "m", "choices": [{"index": 0, "message": message,
                "logprobs": {"content": content}}], "usage": usage}  # fmt: skip

    completion = {
        "id": "d", "model": "m", "usage": usage,
        "choices": [{"index": 0, "text": ANSWER, "logprobs": {
            "tokens": [texts[token] for token in answer],
            "token_logprobs": [found[token] for token, found in zip(answer, at, strict=True)],
            "top_logprobs": [{texts[other]: value for other, value in found.items()} for found in at],
            "text_offset": [0] * len(answer),
        }}],
    }  # fmt: skip
    scored = {
        "id": "e", "model": "m", "choices": [{"index": 0, "text": "x", "logprobs": None, "prompt_token_ids":
        [*prompt[-1:], *answer], "prompt_logprobs": [None, *(
            {str(token): {"logprob": value, "rank": rank, "decoded_token": texts[token]}
             for rank, (token, value) in enumerate(found.items(), 1)} for found in at
        )]}],
    }  # fmt: skip
    by_id = chat(lambda token: f"token_id:{token}") | {"prompt_token_ids": prompt}
    return {
        "chat": {"request": request, "response": chat(texts.__getitem__)},
        "chat with ids": by_id,
        "batch": {"custom_id": "1", "request": request, "response": {"body": chat(texts.__getitem__)}},
        "completion": {"request": {"prompt": prompt}, "response": completion},
        "prompt": scored,
    }


def write(path: Path, *records: Json) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def stored(root: Path) -> list[dict[str, Any]]:
    return [block.row(index) for block in Store(root).scan() for index in range(block.rows)]


@pytest.mark.parametrize("form", ["chat", "chat with ids", "batch", "completion", "prompt"])
def test_every_form_gives_ids_and_log_probabilities(
    tmp_path: Path, form: str, forms: Any, scores: Any, ids: Any, teacher: Path, kdstore: Run
) -> None:
    source, out = write(tmp_path / "a.jsonl", forms[form]), tmp_path / "a.kd"
    result = kdstore("import", source, "--format", "openai", "--tokenizer", teacher, *KNOWN, "--out", out)
    assert result.exit_code == 0, result.output
    (row,) = stored(out)
    prompt, answer = ids
    assert row["input_ids"].tolist() == (prompt[-1:] if form == "prompt" else prompt)
    assert row["labels"].tolist() == answer
    for position, token in enumerate(answer):
        expected = scores(position, token)
        kept = {
            int(i): float(value)
            for i, value in zip(
                row["teacher"]["ids"][position], row["teacher"]["log_probs"][position], strict=True
            ) if np.isfinite(value)
        }  # fmt: skip
        assert set(kept) == set(expected)
        for other, value in kept.items():
            assert value == pytest.approx(expected[other], abs=0.01)
        left = 1 - sum(np.exp(value) for value in expected.values())
        assert np.exp(row["teacher"]["log_tail"][position][0]) == pytest.approx(left, rel=0.02)
        assert row["label_logprob"][position] == pytest.approx(expected[token], abs=1e-5)
    assert kdstore("verify", out).exit_code == 0
    head = Store(out).head
    assert head.imported is not None
    assert head.imported.headers == ({"model": "m"},)
    assert head.imported.causal


def test_minus_9999_is_no_candidate(tmp_path: Path, forms: Any, ids: Any, teacher: Path, kdstore: Run) -> None:
    record = copy.deepcopy(forms["chat with ids"])
    first = record["choices"][0]["logprobs"]["content"][0]
    first["logprob"] = 0.0
    first["top_logprobs"] = [
        {"token": first["token"], "logprob": 0.0}, {"token": "token_id:9", "logprob": -9999.0},
    ]  # fmt: skip
    out = tmp_path / "a.kd"
    args = ("--format", "openai", "--tokenizer", teacher, *KNOWN, "--out", out)
    assert kdstore("import", write(tmp_path / "a.jsonl", record), *args).exit_code == 0
    (row,) = stored(out)
    kept = np.isfinite(row["teacher"]["log_probs"][0])
    assert row["teacher"]["ids"][0][kept].tolist() == [ids[1][0]]
    assert row["teacher"]["log_tail"][0][0] == -np.inf
    assert len(set(row["teacher"]["ids"][0].tolist())) == len(kept)


def test_choices_are_rows_and_only_the_bad_one_is_left_out(
    tmp_path: Path, forms: Any, teacher: Path, kdstore: Run
) -> None:
    record = copy.deepcopy(forms["chat with ids"])
    bad = copy.deepcopy(record["choices"][0])
    bad["logprobs"]["content"][2]["logprob"] = 0.7
    record["choices"].append(bad)
    out = tmp_path / "a.kd"
    args = ("--format", "openai", "--tokenizer", teacher, *KNOWN, "--max-bad", 1, "--out", out)
    assert kdstore("import", write(tmp_path / "a.jsonl", record), *args).exit_code == 0
    assert len(stored(out)) == 1
    (line,) = (out / "quarantine.jsonl").read_text().splitlines()
    assert json.loads(line)["origin"] == "a.jsonl:1, choice 1"


def changed(record: Json, path: str, value: Any) -> Json:
    """A copy with another value at a path such as ``choices.0.text``."""
    result = copy.deepcopy(record)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place: Any = result
    for part in parents:
        place = place[part]
    place[last] = value
    return result


def test_contradictions_are_named_row_by_row(tmp_path: Path, forms: Any, teacher: Path, kdstore: Run) -> None:
    chat, given, scored, plain = (forms[name] for name in ("chat", "chat with ids", "prompt", "completion"))
    content = "choices.0.logprobs.content"
    entry = given["choices"][0]["logprobs"]["content"][0]
    first = scored["choices"][0]["prompt_logprobs"][1]
    cases = [
        ({"a": 1}, "expected a response with choices"),
        ({"choices": [1]}, "expected a response with choices"),
        ({"response": [], "request": {}}, "expected a response with choices"),
        (chat["response"], "Expected the prompt"),
        (changed(chat, "response.usage.prompt_tokens", 3), "as the server counted"),
        (changed(chat, "request.prompt", 3), "Expected the prompt"),
        (changed(chat, "request", {"messages": [{"role": "user", "content": "x"}]}), "chat template"),
        (changed(given, "choices.0.logprobs", None), "Ask for logprobs"),
        (changed(given, content, "x"), "list of at most"),
        (changed(given, content, []), "Expected scored tokens"),
        (changed(given, f"{content}.0", None), "an entry of logprobs.content"),
        (changed(given, f"{content}.0.token", "token_id:400"), "id below 400"),
        (changed(given, f"{content}.0.token", "token_id:99999999"), "id below 400"),
        (changed(given, f"{content}.0.token", 5), "token as text"),
        (changed(given, f"{content}.0.token", "未知"), "which none has"),
        (changed(given, f"{content}.0.token", "\ufffd"), "which several ids have"),
        (changed(given, f"{content}.0.logprob", -10000.0), "from -9999 to 0"),
        (changed(given, f"{content}.0.logprob", True), "from -9999 to 0"),
        (changed(given, f"{content}.0.logprob", "-1"), "from -9999 to 0"),
        (changed(given, f"{content}.0.logprob", entry["logprob"] - 1), "one log-probability per id"),
        (changed(given, f"{content}.0.top_logprobs", [entry["top_logprobs"][0]] * 2), "one twice"),
        (changed(given, f"{content}.0.top_logprobs",
                 [{"token": f"token_id:{i}", "logprob": -0.1} for i in range(9)]), "mass is at most 1"),
        (changed(given, f"{content}.1.top_logprobs",
                 [{"token": f"token_id:{i}", "logprob": -0.1} for i in range(3, 6)]), "mass is at most 1"),
        (changed(given, "prompt_token_ids", [1, 400]), "id below 400"),
        (changed(given, "prompt_token_ids", []), "as the server counted"),
        (changed(plain, "response.choices.0.logprobs.tokens", ["a"]), "equal lengths"),
        (changed(plain, "response.choices.0.logprobs.top_logprobs.0", [1]), "Expected an object"),
        (changed(plain, "response.choices.0.token_ids", [1, 2]), "token_ids, one per token"),
        (changed(scored, "choices.0.prompt_token_ids", [1, 2, 3]), "for 3 prompt tokens"),
        (changed(scored, "choices.0.prompt_logprobs.0", first), "the first of them null"),
        (changed(scored, "choices.0.prompt_logprobs.1", {}), "among its candidates"),
        (changed(scored, "choices.0.prompt_logprobs.1", {"9" * 5000: {"logprob": -1}}), "id below 400"),
        (changed(scored, "choices.0.prompt_logprobs.1", {"7": {"logprob": -1, "decoded_token": "?!"}}), "of id 7"),
        (changed(scored, "choices.0.prompt_logprobs.1", {"7": None}), "Expected an object"),
    ]  # fmt: skip
    out = tmp_path / "a.kd"
    args = ("--format", "openai", "--tokenizer", teacher, *KNOWN, "--max-bad", 1, "--out", out)
    result = kdstore("import", write(tmp_path / "a.jsonl", given, *(case for case, _ in cases)), *args)
    assert result.exit_code == 0, result.output
    assert len(stored(out)) == 1
    reasons = [json.loads(line)["reason"] for line in (out / "quarantine.jsonl").read_text().splitlines()]
    for (_, message), reason in zip(cases, reasons, strict=True):
        assert message in reason
        assert len(reason) < 400
        assert "\n" not in reason


def test_a_pretty_printed_file_is_read_and_other_files_are_refused(
    tmp_path: Path, forms: Any, teacher: Path, kdstore: Run
) -> None:
    args = ("--format", "openai", "--tokenizer", teacher, *KNOWN, "--out", tmp_path / "a.kd")
    stream, huge = tmp_path / "a.sse.txt", tmp_path / "huge.json"
    stream.write_text("data: {}")
    with huge.open("wb") as file:
        file.truncate(1 << 30)  # of zeros, without taking the space
    for path, message in ((stream, "ending in"), (tmp_path / "no.json", "nothing there"), (huge, "is larger than")):
        result = kdstore("import", path, *args)
        assert result.exit_code == 3
        assert message in error_line(result)
    pretty = tmp_path / "a.json"
    pretty.write_text(json.dumps(forms["chat with ids"], indent=2))
    assert kdstore("import", pretty, *args).exit_code == 0


@pytest.fixture(scope="module")
def sample_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer with the tokens of the real sample; its own one is not at hand."""
    if not SAMPLES.is_dir():
        pytest.skip("needs ../shared/data/logits")
    from tokenizers import pre_tokenizers

    response = json.loads((SAMPLES / "gonka_qwq32b_inference_response.json").read_text())
    entries = response["choices"][0]["logprobs"]["content"]
    texts = {other["token"] for entry in entries for other in [entry, *entry["top_logprobs"]]}
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {text: index for index, text in enumerate(["<pad>", "</s>", *alphabet])}
    for text in sorted(texts):
        ((mapped, _),) = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
        vocabulary.setdefault(mapped, len(vocabulary))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    directory = tmp_path_factory.mktemp("sample")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", clean_up_tokenization_spaces=False,
        chat_template="{% for m in messages %}{{ m.content }}{% endfor %}",
    ).save_pretrained(directory)  # fmt: skip
    return directory


def test_the_real_samples(tmp_path: Path, sample_tokenizer: Path, teacher: Path, kdstore: Run) -> None:
    name = "gonka_qwq32b_inference_response.json"
    response = json.loads((SAMPLES / name).read_text())
    args = ("--format", "openai", *KNOWN)
    alone = kdstore("import", SAMPLES / name, *args, "--tokenizer", sample_tokenizer, "--out", tmp_path / "a.kd")
    assert alone.exit_code == 3
    assert "Expected the prompt" in error_line(alone)
    # 218 characters, each a token of this tokenizer, as many as the server counted of its own
    request = {"messages": [{"role": "user", "content": "To whom did she appear? ".ljust(218, ".")}]}
    source = write(tmp_path / "a.jsonl", {"request": request, "response": response})
    wrong = kdstore("import", source, *args, "--tokenizer", teacher, "--out", tmp_path / "b.kd")
    assert wrong.exit_code == 3
    assert "which none has" in error_line(wrong)
    right = kdstore("import", source, *args, "--tokenizer", sample_tokenizer, "--out", tmp_path / "c.kd")
    assert right.exit_code == 0, right.output
    (row,) = stored(tmp_path / "c.kd")
    entries = response["choices"][0]["logprobs"]["content"]
    np.testing.assert_allclose(row["label_logprob"], [entry["logprob"] for entry in entries], atol=1e-6)
    assert (
        AutoTokenizer.from_pretrained(sample_tokenizer).decode(row["labels"])
        == response["choices"][0]["message"]["content"]
    )
    assert row["teacher"]["ids"].shape == (100, 3)
    streamed = kdstore(
        "import", SAMPLES / "gonka_qwen25_7b_response_streamed.sse.txt", *args, "--tokenizer", teacher,
        "--out", tmp_path / "d.kd",
    )  # fmt: skip
    assert streamed.exit_code == 3
    assert "ending in" in error_line(streamed)
