"""DistillKit's captures: every kind of coding comes back, and files that contradict their settings are refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from kdstore.errors import CapabilityError
from kdstore.store.reader import Store

from ..distillkit_files import EXACT, HALF, POLYNOMIAL, Config, row, write
from .conftest import Run
from .test_import_predecessor import error_line

KNOWN = ("--temperature", 1, "--tail", "leftover")
Rows = list[tuple[list[int], np.ndarray]]


@pytest.fixture(scope="module")
def sequences() -> Rows:
    """Sequences of ids below 400 that end with </s>, and logits [n - 1, 401] of all tokens but the first."""
    rng = np.random.default_rng(3)
    found = []
    for length in range(4, 34):
        ids = [*rng.integers(3, 400, length - 1).tolist(), 1]
        logits = rng.normal(size=(length - 1, 401)) * 2.5
        logits[range(length - 1), ids[1:]] += 5
        found.append((ids, logits))
    return found


def imported(out: Path) -> dict[tuple[int, ...], dict[str, Any]]:
    return {
        (*row["input_ids"].tolist(), *row["labels"].tolist()): row
        for block in Store(out).scan() for row in map(block.row, range(block.rows))
    }  # fmt: skip


def columns(sequences: Rows, config: Config) -> list[dict[str, Any]]:
    return [row(ids, logits, config)[0] for ids, logits in sequences]


@pytest.mark.parametrize("config", [EXACT, POLYNOMIAL, HALF])
def test_candidates_come_back_as_they_were_coded(
    tmp_path: Path, config: Config, sequences: Rows, teacher: Path, kdstore: Run
) -> None:
    coded = [row(ids, logits, config) for ids, logits in sequences]
    source = write(tmp_path / "captured", [columns for columns, _ in coded], config)
    out = tmp_path / "a.kd"
    result = kdstore("import", source, "--format", "distillkit", "--tokenizer", teacher, *KNOWN, "--out", out)
    assert result.exit_code == 0, result.output
    found = imported(out)
    assert len(found) == len(sequences)
    for (ids, _), (_, expected) in zip(sequences, coded, strict=True):
        stored = found[tuple(ids)]
        assert stored["input_ids"].tolist() == ids[:1]
        for position, candidates in enumerate(expected):
            teacher_ids = stored["teacher"]["ids"][position].tolist()
            assert sorted(teacher_ids) == sorted(candidates)
            values = [candidates[token] for token in teacher_ids]
            np.testing.assert_allclose(stored["teacher"]["log_probs"][position], values, atol=0.01)
            tail = np.exp(stored["teacher"]["log_tail"][position].astype(float))
            np.testing.assert_allclose(tail, max(0, 1 - np.exp(values).sum()), atol=0.002)
            at_label = candidates.get(ids[position + 1], -np.inf)
            np.testing.assert_allclose(stored["label_logprob"][position], at_label, atol=0.002)
    assert kdstore("verify", out).exit_code == 0
    head = Store(out).head
    assert head.imported is not None
    assert head.imported.causal
    assert head.imported.headers[0]["k"] == config["k"]
    assert head.codec is not None
    assert head.codec.config == {"k": config["k"], "temperatures": [1.0]}


def test_an_exact_capture_holds_the_teachers_distribution(
    tmp_path: Path, sequences: Rows, teacher: Path, kdstore: Run
) -> None:
    """Against the logits themselves, through the codec: not only what the writer says of its own bytes."""
    source = write(tmp_path / "captured", columns(sequences, EXACT), EXACT)
    out = tmp_path / "a.kd"
    assert kdstore(
        "import", source, "--format", "distillkit", "--tokenizer", teacher, *KNOWN, "--out", out
    ).exit_code == 0  # fmt: skip
    codec, found = Store(out).codec(), imported(out)
    assert codec is not None
    for ids, logits in sequences:
        arrays = {name: torch.from_numpy(a.copy()) for name, a in found[tuple(ids)]["teacher"].items()}
        signal = codec.decode(arrays, 1.0)
        expected_LV = torch.log_softmax(torch.from_numpy(logits), -1).float()
        torch.testing.assert_close(signal.ids_LK, expected_LV.topk(8, -1).indices)
        torch.testing.assert_close(signal.log_probs_LK, expected_LV.topk(8, -1).values, atol=0.01, rtol=0)
        tail_L = torch.log1p(-expected_LV.topk(8, -1).values.exp().sum(-1))
        torch.testing.assert_close(signal.log_tail_L, tail_L, atol=0.01, rtol=0)
    with pytest.raises(CapabilityError, match="temperature whose tail mass"):
        codec.check_temperature(2.0)


def test_the_filling_behind_a_sequence_is_left_out(
    tmp_path: Path, sequences: Rows, teacher: Path, kdstore: Run
) -> None:
    ids, logits = sequences[5]
    padded = [*ids[:-1], 0]  # <pad>, which is not </s> here
    source = write(tmp_path / "captured", columns([(padded, logits), (ids, logits)], EXACT), EXACT)
    out = tmp_path / "a.kd"
    args = ("--format", "distillkit", "--tokenizer", teacher, *KNOWN, "--out", out)
    assert kdstore("import", source, *args).exit_code == 0
    assert set(imported(out)) == {tuple(ids), tuple(ids[:-1])}


def broken(good: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return good | changes


def test_bad_rows_are_left_out_one_by_one(tmp_path: Path, sequences: Rows, teacher: Path, kdstore: Run) -> None:
    (good,) = columns(sequences[8:9], EXACT)
    ids, packed, coded = good["input_ids"], good["bytepacked_indices"], good["compressed_logprobs"]
    nan = list(np.array([np.nan] * 8, np.float32).tobytes())
    logits = list(np.array([3.0, 0, 0, 0, 0, 0, 0, 0], np.float32).tobytes())
    cases = [
        (broken(good, input_ids=[*ids[:-1], 500]), "below 401"),
        (broken(good, input_ids=[*ids[:-1], 1 << 63]), "below 401"),
        (broken(good, input_ids=None), "below 401"),
        (broken(good, input_ids=ids[:-3]), "positions for"),
        (broken(good, input_ids=[*ids, 5, 5]), "positions for"),
        (broken(good, compressed_logprobs=[line[:-1] for line in coded]), "32 bytes per position"),
        (broken(good, bytepacked_indices=[[*line, 0] for line in packed]), "9 bytes per position"),
        (broken(good, bytepacked_indices=packed[:-1]), "equal lengths"),
        (broken(good, bytepacked_indices=[[255] * 9, *packed[1:]]), "distinct candidates below 401"),
        (broken(good, bytepacked_indices=[[0] * 9, *packed[1:]]), "distinct candidates below 401"),
        (broken(good, compressed_logprobs=[nan, *coded[1:]]), "mass is at most 1"),
        (broken(good, compressed_logprobs=[logits, *coded[1:]]), "mass is at most 1"),
    ]
    source = write(tmp_path / "captured", [good, *(case for case, _ in cases)], EXACT)
    out = tmp_path / "a.kd"
    args = ("import", source, "--format", "distillkit", "--tokenizer", teacher, *KNOWN, "--max-bad", 1)
    assert kdstore(*args, "--out", out).exit_code == 0
    assert Store(out).rows == 1
    lines = (out / "quarantine.jsonl").read_text().splitlines()
    for (_, message), line in zip(cases, lines, strict=True):
        assert message in json.loads(line)["reason"]
    strict = kdstore(*args, "--out", tmp_path / "b.kd", "--strict")
    assert strict.exit_code == 3
    assert "data_0.parquet:2" in error_line(strict)


def test_settings_and_files_that_cannot_be_right_are_refused(
    tmp_path: Path, sequences: Rows, teacher: Path, kdstore: Run
) -> None:
    good = columns(sequences[8:9], EXACT)
    run = ("--format", "distillkit", "--tokenizer", teacher, "--out", tmp_path / "a.kd")
    fine = write(tmp_path / "fine", good, EXACT)

    def config(name: str, **changes: Any) -> Path:
        return write(tmp_path / name, good, EXACT | changes)

    legacy = write(tmp_path / "legacy", good, EXACT)
    old = {"input_ids": [[1]], "packed_indices": [[[1]]], "exact_values": [[[1.0]]], "coeffs": [[[1.0]]]}
    pq.write_table(pa.table(old), legacy / "data_0.parquet")
    cut = write(tmp_path / "cut", good, EXACT)
    data = (cut / "data_0.parquet").read_bytes()
    (cut / "data_0.parquet").write_bytes(data[: len(data) // 2])
    bare = write(tmp_path / "bare", good, EXACT)
    (bare / "compression_config.yaml").unlink()
    yaml_code = write(tmp_path / "code", good, EXACT)
    (yaml_code / "compression_config.yaml").write_text("!!python/object/apply:os.system ['true']")
    large = write(tmp_path / "large", good, EXACT)
    (large / "compression_config.yaml").write_text("d: 401\n#" + "x" * 100_000)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "compression_config.yaml").write_text("d: 1")
    cases = [
        ((fine,), 2, "Expected --temperature and --tail"),
        ((fine, "--temperature", 1), 2, "Expected --temperature and --tail"),
        ((fine, "--temperature", 2, "--tail", "leftover"), 7, "captured at temperature 1. Got 2"),
        ((fine, "--temperature", "nan", "--tail", "leftover"), 2, "temperature"),
        ((fine, *KNOWN, "--logit-scale", 2), 2, "no --logit-scale"),
        ((fine, *KNOWN, "--codec", "dense"), 2, "--codec topk"),
        ((fine, *KNOWN, "--target-angle", 5), 2, "no target"),
        ((fine, *KNOWN, "--codec-set", "temperatures=[2]"), 2, "no setting but k"),
        ((fine, *KNOWN, "--vocab-size", 300), 4, "tokenizer of at most 300 ids"),
        ((fine, tmp_path / "other", *KNOWN), 4, "one compression config"),
        ((config("many", k=1 << 30), *KNOWN), 3, "compression config"),
        ((config("wide", d=1 << 40), *KNOWN), 3, "compression config"),
        ((config("zero", exact_k=0), *KNOWN), 3, "exact_k below k"),
        ((config("odd", exact_k=9), *KNOWN), 3, "must not exceed k"),
        ((config("type", exact_dtype="int8"), *KNOWN), 3, "exact_dtype"),
        ((config("new", more=1), *KNOWN), 3, "more"),
        ((legacy, *KNOWN), 3, "Expected the columns"),
        ((cut, *KNOWN), 3, "Expected a parquet file"),
        ((bare, *KNOWN), 3, "beside the parquet files"),
        ((yaml_code, *KNOWN), 3, "Expected YAML"),
        ((large, *KNOWN), 3, "settings of a capture"),
        ((tmp_path / "empty", *KNOWN), 3, "compression config"),
        ((tmp_path / "nothing", *KNOWN), 3, "beside the parquet files"),
    ]
    write(tmp_path / "other", good, EXACT | {"delta_encoding": False})
    for args, code, message in cases:
        result = kdstore("import", *args, *run)
        assert result.exit_code == code, (args, result.output)
        assert message in error_line(result)
        assert not (tmp_path / "a.kd").exists()


@pytest.mark.parametrize("power", [-1, 17, 10**30])
def test_a_power_that_no_polynomial_has_is_refused(
    tmp_path: Path, sequences: Rows, teacher: Path, kdstore: Run, power: int
) -> None:
    source = write(
        tmp_path / "captured", columns(sequences[:1], EXACT), POLYNOMIAL | {"polynomial_terms": [0, power]}
    )
    args = ("--format", "distillkit", "--tokenizer", teacher, *KNOWN, "--out", tmp_path / "a.kd")
    result = kdstore("import", source, *args)
    assert result.exit_code == 3, result.output
    assert "polynomial_terms" in error_line(result)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("d: 401\nk: &k 8\nexact_k: *k\nresidual_bins: []", "without aliases"),
        ("d: 401\nk: " + "9" * 5000, "Expected YAML"),
        ("d: 401\nk: 0x" + "9" * 5000, "Got an integer of 20,000 bits at k"),
        ("d: 2001-99-99", "Expected YAML"),
    ],
)
def test_a_config_that_grows_when_it_is_read_is_refused(
    tmp_path: Path, sequences: Rows, teacher: Path, kdstore: Run, text: str, message: str
) -> None:
    source = write(tmp_path / "captured", columns(sequences[:1], EXACT), EXACT)
    (source / "compression_config.yaml").write_text(text)
    args = ("--format", "distillkit", "--tokenizer", teacher, *KNOWN, "--out", tmp_path / "a.kd")
    result = kdstore("import", source, *args)
    assert result.exit_code == 3, result.output
    assert message in error_line(result)


def test_a_row_group_that_would_fill_memory_is_refused(
    tmp_path: Path, sequences: Rows, teacher: Path, kdstore: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "captured", columns(sequences, EXACT), EXACT)
    values = sum(len(logits) * 32 for _, logits in sequences)
    args = ("import", source, "--format", "distillkit", "--tokenizer", teacher, *KNOWN, "--out", tmp_path / "a.kd")
    monkeypatch.setattr("kdstore.importers.distillkit._MAX_GROUP_VALUES", values - 1)
    result = kdstore(*args)
    assert result.exit_code == 3
    assert f"Got {values:,} in the 30 rows of one. Write smaller row groups" in error_line(result)
    monkeypatch.setattr("kdstore.importers.distillkit._MAX_GROUP_VALUES", values)
    assert kdstore(*args).exit_code == 0


def test_a_column_that_unpacks_to_more_than_its_values_is_refused(
    tmp_path: Path, sequences: Rows, teacher: Path, kdstore: Run
) -> None:
    source = write(tmp_path / "captured", columns(sequences, EXACT), EXACT)
    path = source / "data_0.parquet"
    size = pq.ParquetFile(path).metadata.row_group(0).column(1).total_uncompressed_size
    true, false = varint(size), varint((1 << 20) - 1)
    assert len(true) == len(false) == 3
    head, footer = path.read_bytes()[:-3000], path.read_bytes()[-3000:]
    assert true in footer
    path.write_bytes(head + footer.replace(true, false))
    args = ("--format", "distillkit", "--tokenizer", teacher, *KNOWN, "--out", tmp_path / "a.kd")
    result = kdstore("import", source, *args)
    assert result.exit_code == 3, result.output
    assert "values of a column" in error_line(result)


def varint(value: int) -> bytes:
    """A positive number as parquet's footer keeps it."""
    value, found = 2 * value, bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def test_a_capture_at_an_unknown_temperature_gives_tokens_only(
    tmp_path: Path, sequences: Rows, teacher: Path, kdstore: Run
) -> None:
    source = write(tmp_path / "captured", columns(sequences, EXACT), EXACT)
    out = tmp_path / "a.kd"
    args = ("--format", "distillkit", "--tokenizer", teacher, "--temperature", "unknown", "--tail", "leftover")
    result = kdstore("import", source, *args, "--out", out)
    assert result.exit_code == 0, result.output
    assert "only tokens are kept" in result.stderr
    head = Store(out).head
    assert head.codec is None
    assert head.imported is not None
    assert head.imported.settings == {"temperature": "unknown", "tail": "leftover"}
    assert set(imported(out)) == {tuple(ids) for ids, _ in sequences}
