"""A tiny random T5, a small store with its tokenizer, and runs that are evaluated on it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from kdeval.cli import main
from kdeval.results import Results, Settings
from kdeval.run import evaluate
from kdstore.encode.tokenizer import truncate_target
from kdstore.schema import RaggedText, RaggedTokens, Schema
from kdstore.store.manifest import CodecRecord, Head, Limits, Segment, TeacherRecord, TokenizerRecord
from kdstore.store.writer import begin, finalize, prepare, write_part

from ..encoders import sentence_encoder
from ..random_t5 import save_random_t5

ROWS = 37  # more than one window of 32 batches of one row
ASSERTIONS = ["assertEquals({}, list.size());", "assertTrue(list.contains({}));", "assertNull(map.get({}), text);"]
OUTPUT_TOKENS = 12


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@dataclass(frozen=True)
class World:
    """Paths of a model, its store and the same rows as JSON Lines; ``assertions`` in order."""

    model: Path
    store: Path
    raw: Path
    assertions: list[str]


def make_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<pad>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    backend.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="</s>")


def make_model(path: Path, vocab_size: int, tokenizer: PreTrainedTokenizerFast | None, seed: int = 0) -> Path:
    # With tied weights an untrained T5 writes much the same whatever it reads.
    save_random_t5(path, vocab_size, seed, initializer_factor=4.0, tie_word_embeddings=False)
    if tokenizer is not None:
        tokenizer.save_pretrained(path)
    return path


def write_store(
    root: Path,
    tokenizer: PreTrainedTokenizerFast,
    prompts: list[str],
    assertions: list[str],
    teacher: bool = True,
    codec: CodecRecord | None = None,
    **limits: int,
) -> Path:
    limits = {"max_input_tokens": 64, "max_output_tokens": OUTPUT_TOKENS, **limits}
    columns = ["assertion", "repo", "path", *(["teacher_prediction"] if teacher else [])]
    schema = Schema(
        fields=(
            RaggedText(name="id"),
            *(RaggedTokens(name=name, dtype="uint16") for name in ("input_ids", "labels")),
            *(RaggedText(name=f"text/{name}") for name in columns),
        )
    )
    head = Head(
        task="java_assertion", template="{focal_method}", schema=schema, vocab_size=len(tokenizer), codec=codec,
        teacher=TeacherRecord(
            name="the-teacher", revision=None, weights_sha256="1" * 64, dtype="fp32", device="cpu", batch_size=4,
            threads=1,
        ),
        tokenizer=TokenizerRecord(
            sha256="0" * 64, vocab_size=len(tokenizer), pad_id=0, eos_id=1, decoder_start_id=0
        ),
        encoders={}, limits=Limits(**limits, overlong="truncate"),
        split="all", seed=7, part_rows=16, block_rows=8,
        segments=(Segment(source_sha256="0" * 64, rows=len(prompts), scan={}, versions={}),),
    )  # fmt: skip
    begin(root, head)
    tokenizer.save_pretrained(root / "tokenizer")
    prepare(root)
    rows = [
        {
            "id": f"row-{index}",
            "input_ids": tokenizer(prompt).input_ids,
            "labels": truncate_target(tokenizer(assertion).input_ids, head.limits),
            "text/assertion": assertion,
            "text/repo": "demo",
            "text/path": "src/DemoTest.java",
            # The teacher is right on every second row.
            "text/teacher_prediction": assertion if index % 2 == 0 else "fail();",
        }
        for index, (prompt, assertion) in enumerate(zip(prompts, assertions, strict=True))
    ]
    for part, start in enumerate(range(0, len(rows), 16)):
        write_part(root, head, part, schema.pack(rows[start : start + 16]))
    finalize(root, head)
    return root


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer([*ASSERTIONS, "void test() { List list = new List(); }"])


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> World:
    root = tmp_path_factory.mktemp("world")
    assertions = [ASSERTIONS[index % 3].format(index) for index in range(ROWS)]
    focal = [f"int size() {{ return {'n + ' * (index * 7 % 5)}{index}; }}" for index in range(ROWS)]
    records = [
        {"id": f"row-{index}", "focal_method": method, "test_method": "void test() {", "assertion": assertion}
        for index, (method, assertion) in enumerate(zip(focal, assertions, strict=True))
    ]
    raw = root / "rows.jsonl"
    raw.write_text("".join(json.dumps(record) + "\n" for record in records))
    prompts = [f"{method}\nvoid test() {{" for method in focal]
    store = write_store(root / "val.kd", tokenizer, prompts, assertions)
    return World(make_model(root / "run" / "final_model", len(tokenizer), tokenizer), store, raw, assertions)


@pytest.fixture(scope="session")
def encoder() -> str:
    return sentence_encoder()


METRIC_NAMES = ["exact_match", "f1", "bleu", "token_accuracy", "loss", "ast_validity"]
Evaluate = Callable[..., Results]


@pytest.fixture
def evaluated(world: World, tmp_path: Path) -> Evaluate:
    """Evaluate the tiny model: ``evaluated(data=..., into="name", limit=...)``, into a directory of the test."""

    def run(
        data: Path | None = None, into: str = "run", metrics: list[str] | None = None, **settings: object
    ) -> Results:
        chosen = Settings.model_validate({"device": "cpu", **settings})
        return evaluate(world.model, data or world.store, tmp_path / into, chosen, metrics or METRIC_NAMES)

    return run


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def assert_fails(result: Result, code: int, *words: str) -> None:
    """The command ended with ``code`` and one line on stderr that holds all ``words``."""
    errors = [line for line in result.stderr.splitlines() if "error:" in line]
    assert result.exit_code == code, result.stderr
    assert result.stderr.splitlines()[-1:] == errors, result.stderr
    assert errors[0].startswith("kdeval: error: ")
    assert all(word in errors[0] for word in words), errors[0]
