"""Small real stores: tokens with a pattern that a student can learn, signals encoded by the real codecs."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from kdstore.codecs import Output
from kdstore.schema import RaggedText, RaggedTokens, Scalar, Schema, TeacherSignal, Vector
from kdstore.store.manifest import CodecRecord, Fidelity, Head, Limits, Segment, TeacherRecord, TokenizerRecord
from kdstore.store.reader import Store
from kdstore.store.shared import publish_shared, stage_shared
from kdstore.store.writer import begin, finalize, prepare, write_part
from kdtrain.models import tokenizer as tokenizers

from ..codec_tools import fitted, recorded

MakeStore = Callable[..., Store]

TEXTS = ["assertEquals(1, list.size());", "assertTrue(list.isEmpty());", "assertNull(map.get(key));"] * 3
END = 1
CLOSING = 11  # ")", which the tokenizer merges where it stands twice: labels would not be their text's


@pytest.fixture(autouse=True, scope="session")
def _few_threads():
    torch.set_num_threads(1)
    os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session")
def tokenizer_dir(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    tokenizers.train(TEXTS, 280).save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def vocab_size(tokenizer_dir) -> int:
    return len(tokenizers.PreTrainedTokenizerFast.from_pretrained(tokenizer_dir))


@pytest.fixture(scope="session")
def make_store(tokenizer_dir, vocab_size) -> MakeStore:
    """A function that writes a store: ``make_store(path, rows, codec="topk", codec_config={...}, ...)``.

    ``fidelity``: triples of divergence, temperature and angle that its manifest is to claim. ``texts``: keep the
    references, which a validator compares with. ``embeddings``: names of columns, all alike but the first. ``ids``:
    from where to where tokens are drawn.
    """

    def make(
        root,
        rows,
        *,
        codec="topk",
        codec_config=None,
        seed=0,
        part_rows=64,
        block_rows=16,
        shift=0,
        fidelity=(),
        texts=False,
        embeddings=("mini",),
        ids=(3, 40),
        **head,
    ):
        rng = np.random.default_rng(seed)
        kept = None if codec is None else fitted(codec, vocab_size, codec_config)
        record, shared = recorded(kept) if kept else (None, {})
        if fidelity:
            claimed = tuple(fidelity_of(record, *claim) for claim in fidelity)
            record = record.model_copy(update={"fidelity": claimed})
        fields = [RaggedText(name="id"), *(RaggedTokens(name=n, dtype="uint16") for n in ("input_ids", "labels"))]
        if kept:
            fields += [Scalar(name="label_logprob", dtype="float16", along="labels")]
            fields += [TeacherSignal(name="teacher", arrays=kept.arrays())]
        fields += [Vector(name=f"embeddings/{name}", dtype="float16", width=4) for name in embeddings]
        if texts:
            fields.append(RaggedText(name="text/assertion"))
        settings = {
            "task": "java_assertion",
            "template": "{focal_method}\n{test_method}",
            "schema": Schema(fields=tuple(fields)),
            "vocab_size": vocab_size,
            "codec": record,
            "teacher": TEACHER if kept else None,
            "tokenizer": TokenizerRecord(
                sha256="0" * 64, vocab_size=vocab_size, pad_id=0, eos_id=END, decoder_start_id=0
            ),
            "encoders": {},
            "limits": Limits(max_input_tokens=64, max_output_tokens=16, overlong="truncate"),
            "split": "all",
            "seed": seed,
            "part_rows": part_rows,
            "block_rows": block_rows,
            "segments": (Segment(source_sha256="0" * 64, rows=rows, scan={}, versions={}),),
        }
        head = Head(**{**settings, **head})
        begin(root, head)
        stage_shared(root, shared)
        publish_shared(root)
        tokenizer = tokenizers.PreTrainedTokenizerFast.from_pretrained(tokenizer_dir)
        tokenizer.save_pretrained(root / "tokenizer")
        prepare(root)
        samples = [_row(rng, index, kept, vocab_size, shift, ids) for index in range(rows)]
        others = [f"embeddings/{name}" for name in embeddings[1:]]
        samples = [row | {name: np.arange(4) - index % 5 for name in others} for index, row in enumerate(samples)]
        if texts:
            samples = [row | {"text/assertion": tokenizer.decode(row["labels"][:-1])} for row in samples]
        for part, start in enumerate(range(0, rows, part_rows)):
            write_part(root, head, part, head.schema_.pack(samples[start : start + part_rows]))
        finalize(root, head)
        return Store(root)

    return make


def fidelity_of(record: CodecRecord, divergence: str, temperature: float, angle: float, **changes) -> Fidelity:
    """What a manifest says of a codec's fidelity."""
    values = {
        "codec": record.name, "settings": record.config, "divergence": divergence, "temperature": temperature,
        "reference": "label frequencies", "reference_kl": 1.0, "positions": 2048, "batch_positions": 2048,
        "angle_deg": angle, "angle_worst_deg": angle, "norm_ratio": 1.0, "bytes_per_token": 1.0, "shared_bytes": 0,
    }  # fmt: skip
    return Fidelity(**{**values, **changes})


TEACHER = TeacherRecord(
    name="random", revision=None, weights_sha256="0" * 64, dtype="fp32", device="cpu", batch_size=1, threads=1
)


def _row(rng, index, codec, vocab_size, shift, ids):
    """A row whose target repeats the first token of its input; the teacher is fairly sure of it.

    ``shift`` plants a fault: the signal lies so many tokens away from its labels.
    """
    input_ids = [*rng.integers(*ids, rng.integers(2, 12)).tolist(), END]
    first = CLOSING + 1 if input_ids[0] == CLOSING else input_ids[0]
    labels = [*[first] * int(rng.integers(1, 5)), END]
    row = {"id": f"row-{index}", "input_ids": input_ids, "labels": labels, "embeddings/mini": np.full(4, index % 7)}
    if codec is None:
        return row
    logits_LV = torch.from_numpy(rng.normal(size=(len(labels), vocab_size)).astype(np.float32))
    logits_LV[range(len(labels)), labels] += 6
    log_probs_LV = torch.log_softmax(logits_LV, dim=-1)
    signal = {name: values.numpy() for name, values in codec.encode(Output(logits_LV.roll(shift, 0))).items()}
    return row | {"label_logprob": log_probs_LV[range(len(labels)), labels].numpy(), "teacher": signal}


@pytest.fixture(scope="session")
def stores(make_store, tmp_path_factory):
    """A training and a validation store of a few rows, with top-k signals."""
    root = tmp_path_factory.mktemp("stores")
    return make_store(root / "train.kd", 96, texts=True), make_store(root / "val.kd", 24, seed=1, texts=True)


@pytest.fixture(scope="session")
def dense_stores(make_store, tmp_path_factory):
    """The same rows with signals that serve every temperature, as the default loss needs them."""
    root = tmp_path_factory.mktemp("dense")
    same = {"codec": "dense", "texts": True}
    return make_store(root / "train.kd", 96, **same), make_store(root / "val.kd", 24, seed=1, **same)


@pytest.fixture(scope="session")
def model_dir(tokenizer_dir, vocab_size, tmp_path_factory) -> Path:
    """A pretrained-looking model of 10 thousand weights with dropout, with its tokenizer."""
    from transformers import T5Config, T5ForConditionalGeneration

    path = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=vocab_size, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, dropout_rate=0.1,
        decoder_start_token_id=0,
    )  # fmt: skip
    T5ForConditionalGeneration(config).save_pretrained(path)
    tokenizers.PreTrainedTokenizerFast.from_pretrained(tokenizer_dir).save_pretrained(path)
    return path
