"""Texts, tokens and signals of a store belong together, or the first place where they do not is named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from kdstore.codecs import Codec, Output
from kdstore.encode._label_fit import LabelFit, fit_labels
from kdstore.encode.alignment import check_alignment
from kdstore.errors import CorruptStoreError, MismatchError
from kdstore.schema import RaggedText, RaggedTokens, Scalar, Schema, TeacherSignal
from kdstore.store.manifest import ImportRecord
from kdstore.store.reader import Store
from kdstore.store.writer import begin, finalize, prepare, write_part

from ..codec_tools import fitted, linear_output, recorded
from .conftest import Run, make_rows, write_rows

Row = dict[str, Any]
Rewrite = Callable[..., Store]


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory, teacher: Path, kdstore: Run) -> Path:
    """A store of 60 rows in 3 parts, most of whose prompts were cut."""
    root = tmp_path_factory.mktemp("sound")
    rows, out = write_rows(root / "rows.jsonl", make_rows(60)), root / "sound.kd"
    args = ["--teacher", teacher, "--out", out, "--codec", "dense", "--part-rows", 20, "--block-rows", 10]
    result = kdstore("build", rows, *args, "--max-input-len", 60, "--no-teacher-prediction")
    assert result.exit_code == 0, result.stderr
    return out


@pytest.fixture
def rewrite(sound: Path, tmp_path: Path) -> Rewrite:
    """Write the store again with other rows, further text columns, another tokenizer, codec or head."""

    def again(
        change: Callable[[int, Row], Row] = lambda index, row: row,
        *,
        columns: tuple[str, ...] = (),
        tokenizer: Path | None = None,
        codec: Codec[Any] | None = None,
        **changes: Any,
    ) -> Store:
        source, root = Store(sound), tmp_path / "changed.kd"
        rows = [block.row(index) for block in source.scan() for index in range(block.rows)]
        rows = [change(index, dict(row)) for index, row in enumerate(rows)]
        fields = [*source.schema.fields, *(RaggedText(name=f"text/{name}") for name in columns)]
        if codec is not None:
            changes["codec"], _ = recorded(codec)
            fields = [field for field in fields if not isinstance(field, TeacherSignal)]
            fields.append(TeacherSignal(name="teacher", arrays=codec.arrays()))
            for row in rows:
                output = Output(torch.from_numpy(row["teacher"]["logits"]).float())
                row["teacher"] = {name: values.numpy() for name, values in codec.encode(output).items()}
        schema = Schema(fields=tuple(fields))
        head = source.head.model_copy(update={"schema_": schema, **changes})
        begin(root, head)
        shutil.copytree(tokenizer or sound / "tokenizer", root / "tokenizer")
        prepare(root)
        for part, start in enumerate(range(0, len(rows), 20)):
            write_part(root, head, part, schema.pack(rows[start : start + 20]))
        finalize(root, head)
        return Store(root)

    return again


@pytest.fixture
def other_tokenizer(sound: Path, tmp_path: Path) -> Path:
    """The store's tokenizer with the ids of two frequent tokens exchanged."""
    AutoTokenizer.from_pretrained(sound / "tokenizer").save_pretrained(tmp_path / "other")
    path = tmp_path / "other" / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["assertTrue"], vocabulary["assertNull"] = vocabulary["assertNull"], vocabulary["assertTrue"]
    path.write_text(json.dumps(tokenizer))
    return tmp_path / "other"


def test_a_sound_store_passes_and_everything_was_checked(sound: Path) -> None:
    assert check_alignment(Store(sound), range(3)) == []


def test_the_template_must_be_the_tasks(rewrite: Rewrite) -> None:
    store = rewrite(template="{test_method}")
    with pytest.raises(
        MismatchError, match=r"'\{focal_method\}\\n\{test_method\}' of the task.*Got '\{test_method\}'"
    ):
        check_alignment(store, [0])


def test_an_unknown_task_is_said_to_be_unknown(rewrite: Rewrite) -> None:
    reasons = check_alignment(rewrite(task="gone"), [0, 1])
    assert [reason.partition(":")[0] for reason in reasons] == ["template", "labels"]
    assert "'gone'" in reasons[0]


@pytest.mark.parametrize("template", ["{", "{assertion!z}", "{assertion:>2000000000}", "{assertion.__class__}"])
def test_a_template_of_others_is_never_filled_in(rewrite: Rewrite, template: str) -> None:
    reasons = check_alignment(rewrite(task="gone", template=template), [0])
    assert [reason.partition(":")[0] for reason in reasons] == ["template", "labels"]


def test_another_tokenizer_is_found_at_its_first_token(rewrite: Rewrite, other_tokenizer: Path) -> None:
    with pytest.raises(
        MismatchError, match=r"labels of row '\w+'.*'assert(True|Null)' \(id \d+\) at position 0\. Got 'assert"
    ):
        check_alignment(rewrite(tokenizer=other_tokenizer), [0])


@pytest.mark.parametrize("part", [0, 2])
def test_one_wrong_label_is_found_in_its_part(rewrite: Rewrite, part: int) -> None:
    def change(index: int, row: Row) -> Row:
        if index == part * 20 + 3:
            row["labels"] = row["labels"].copy()
            row["labels"][2] = 7
        return row

    store = rewrite(change)
    name = next(store.scan()).row(3)["id"] if part == 0 else list(store.scan())[4].row(3)["id"]
    assert check_alignment(store, [1]) == []
    with pytest.raises(MismatchError, match=rf"row '{name}'.*at position 2\. Got .*id 7"):
        check_alignment(store, range(3))


def test_a_missing_end_token_is_found(rewrite: Rewrite) -> None:
    def change(index: int, row: Row) -> Row:
        """Without its last label token."""
        for name in ("labels", "label_logprob"):
            row[name] = row[name][:-1]
        return {**row, "teacher": {name: values[:-1] for name, values in row["teacher"].items()}}

    with pytest.raises(MismatchError, match=r"'</s>' \(id 1\) at position \d+\. Got no token"):
        check_alignment(rewrite(change), [0])


def test_inputs_whose_text_gives_other_tokens_are_found(rewrite: Rewrite) -> None:
    """A token for every character: such ids no tokenizer that merges gives."""
    characters = np.array([*(3 + ord(char) - ord("!") for char in "@Testvoidtest()"), 1])
    store = rewrite(lambda index, row: {**row, "input_ids": characters})
    with pytest.raises(MismatchError, match=r"input_ids of row .* their own text: .* at position \d\. Got '\w'"):
        check_alignment(store, [0])


def test_a_quirk_of_a_few_texts_is_none_of_the_tokenizer(rewrite: Rewrite) -> None:
    def change(index: int, row: Row) -> Row:
        characters = np.array([*(3 + ord(char) - ord("!") for char in "void"), 1])
        return {**row, "input_ids": characters} if index % 5 == 0 else row

    assert check_alignment(rewrite(change), range(3)) == []


def test_inputs_of_special_tokens_are_said_to_be_unknown(rewrite: Rewrite) -> None:
    store = rewrite(lambda index, row: {**row, "input_ids": np.array([40, 2, 41, 1])})
    (reason,) = check_alignment(store, [0])
    assert reason.startswith("input_ids")


def test_prompts_whose_parts_are_stored_are_filled_into_the_template(rewrite: Rewrite, sound: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(sound / "tokenizer")

    def change(index: int, row: Row) -> Row:
        focal, test = f"int f{index}() {{}}", f"void t{index}() {{ }}" * 40
        ids = tokenizer(f"{focal}\n{test}").input_ids[-60:]
        return {**row, "text/focal_method": focal, "text/test_method": test, "input_ids": ids}

    assert check_alignment(rewrite(change, columns=("focal_method", "test_method")), range(3)) == []


def test_prompts_of_another_template_are_found(rewrite: Rewrite, sound: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(sound / "tokenizer")

    def change(index: int, row: Row) -> Row:
        focal, test = "int f() {}", f"void t{index}() {{ }}"
        ids = tokenizer(f"{focal} {test}").input_ids
        return {**row, "text/focal_method": focal, "text/test_method": test, "input_ids": ids}

    with pytest.raises(MismatchError, match=r"input_ids .* its template, filled in: '\\n' .* Got ' v"):
        check_alignment(rewrite(change, columns=("focal_method", "test_method")), [0])


def test_imported_sequences_are_said_to_be_unknown(rewrite: Rewrite) -> None:
    imported = ImportRecord(format="openai", settings={}, headers=(), causal=True)
    reasons = check_alignment(rewrite(task="openai", template="", imported=imported, teacher=None), [0])
    assert [reason.partition(":")[0] for reason in reasons] == ["template", "labels", "input_ids"]


@pytest.mark.parametrize(("by", "words"), [(1, "of the label before"), (-1, "of the next label")])
def test_a_shift_by_one_is_called_so(rewrite: Rewrite, by: int, words: str) -> None:
    def change(index: int, row: Row) -> Row:
        return {**row, "teacher": {name: np.roll(values, by, 0) for name, values in row["teacher"].items()}}

    store = rewrite(change)
    with pytest.raises(MismatchError, match=rf"nats away .* at position \d+ of row .* {words}: it is shifted by one"):
        check_alignment(store, [0])
    assert check_alignment(store, [0], with_signal=False) == []


def test_signals_of_other_rows_are_found_and_not_called_shifted(rewrite: Rewrite) -> None:
    def change(index: int, row: Row) -> Row:
        values = np.random.default_rng(index).permutation(row["teacher"]["logits"].T).T
        return {**row, "teacher": {"logits": values}}

    with pytest.raises(MismatchError, match="nats away") as caught:
        check_alignment(rewrite(change), [0])
    assert "shifted" not in str(caught.value)


def test_verify_deep(rewrite: Rewrite, sound: Path, kdstore: Run) -> None:
    result = kdstore("verify", "--deep", sound)
    assert result.exit_code == 0, result.stderr
    assert "a few rows of every part" in result.stdout
    assert kdstore("verify", "--deep", "--quick", sound).exit_code == 2
    said = kdstore("verify", "--deep", rewrite(task="gone").root)
    assert said.exit_code == 0
    assert "not checked: template" in said.stderr


def test_verify_deep_finds_what_checksums_cannot(rewrite: Rewrite, other_tokenizer: Path, kdstore: Run) -> None:
    root = rewrite(tokenizer=other_tokenizer).root
    assert kdstore("verify", root).exit_code == 0
    result = kdstore("verify", "--deep", "--json", root)
    assert result.exit_code == 4
    report = json.loads(result.stdout)
    assert not report["ok"]
    assert "Got 'assert" in report["problems"][0]
    assert "at position 0" in result.stderr.splitlines()[-1]


# What signals say of labels, for every codec.

CODECS = [
    ("dense", {}), ("dense", {"dtype": "int4"}), ("topk", {"k": 8}), ("topp", {"p": 0.8}), ("sampled", {"draws": 20}),
    ("hidden", {}), ("hidden", {"dtype": "int4"}), ("lowrank", {}), ("lowrank", {"rank": 2, "step": 1.0}),
]  # fmt: skip
VOCAB = 300
each_codec = pytest.mark.parametrize(("name", "config"), CODECS, ids=lambda value: str(value))


def signals(codec: Codec[Any], by: int = 0, seed: int = 0) -> tuple[Schema, list[Row]]:
    """16 rows of 12 labels drawn from the teacher, their signals moved by so many tokens within a row."""
    rows = []
    for index in range(16):
        output, _ = linear_output(12, VOCAB, seed=1000 * seed + index, scale=6.0)
        log_probs_LV = torch.log_softmax(output.logits_LV, -1)
        generator = torch.Generator().manual_seed(index)
        labels_L1 = torch.multinomial(log_probs_LV.exp(), 1, generator=generator)
        moved = Output(output.logits_LV.roll(by, 0), output.hidden_LD.roll(by, 0))
        rows.append(
            {
                "labels": labels_L1[:, 0].numpy(),
                "label_logprob": log_probs_LV.gather(-1, labels_L1)[:, 0].numpy(),
                "teacher": {key: values.numpy() for key, values in codec.encode(moved).items()},
            }
        )
    labels, logprob = RaggedTokens(name="labels", dtype="uint16"), Scalar(name="p", dtype="float32", along="labels")
    return Schema(fields=(labels, logprob, TeacherSignal(name="teacher", arrays=codec.arrays()))), rows


def fit(name: str, config: dict[str, Any], by: int = 0) -> LabelFit:
    found = fit_labels(codec := fitted(name, VOCAB, config), *signals(codec, by))
    assert found is not None
    return found


@each_codec
def test_signals_in_their_place_are_aligned(name: str, config: dict[str, Any]) -> None:
    assert fit(name, config).aligned


@each_codec
@pytest.mark.parametrize("by", [1, -1])
def test_signals_one_token_away_are_not(name: str, config: dict[str, Any], by: int) -> None:
    found = fit(name, config, by)
    assert not found.aligned
    assert found.nats > 1
    assert found.shift == -by


@each_codec
def test_signals_further_away_are_not_called_shifted_by_one(name: str, config: dict[str, Any]) -> None:
    found = fit(name, config, 5)
    assert (found.aligned, found.shift) == (False, 0)


def test_nothing_is_claimed_where_nothing_is_known() -> None:
    codec = fitted("topk", VOCAB, {"k": 8})
    schema, rows = signals(codec)
    unknown = [{**row, "label_logprob": np.full(12, -np.inf, np.float32)} for row in rows]
    assert fit_labels(codec, schema, unknown) is None


@each_codec
def test_signals_that_are_no_numbers_are_damage(name: str, config: dict[str, Any]) -> None:
    codec = fitted(name, VOCAB, config)
    schema, rows = signals(codec)
    broken = type(codec)(codec.config, VOCAB, {key: _spoilt(values) for key, values in codec.shared.items()})
    rows = [{**row, "teacher": {key: _spoilt(values) for key, values in row["teacher"].items()}} for row in rows]
    with pytest.raises(CorruptStoreError, match="Got NaN"):
        fit_labels(broken, schema, rows)


def _spoilt(values: Any) -> Any:
    """The numbers with NaN among them, where they can have one."""
    floating = values.is_floating_point() if isinstance(values, torch.Tensor) else values.dtype.kind == "f"
    return values * float("nan") if floating else values


def test_a_codec_without_t_1_is_said_to_be_unknown(rewrite: Rewrite, sound: Path, kdstore: Run) -> None:
    codec = fitted("sampled", Store(sound).head.vocab_size, {"temperature": 2})
    store = rewrite(codec=codec)
    (reason,) = check_alignment(store, [0])
    assert "'sampled' does not serve T = 1" in reason
    shown = json.loads(kdstore("preview", store.root, "--rows", 1, "--json").stdout)[0]
    assert shown["teacher_values"] == "weights of draws at T = 2"
    for token in shown["tokens"]:
        weights = [value for _, value in token["teacher"]]
        assert weights == sorted(weights, reverse=True)
        assert all(weight > 0 for weight in weights)
    assert "weights of draws at T = 2" in kdstore("preview", store.root).stdout


def test_a_preview_of_full_logits_shows_probabilities_at_t_1(sound: Path, kdstore: Run) -> None:
    shown = json.loads(kdstore("preview", sound, "--rows", 1, "--candidates", 10_000, "--json").stdout)[0]
    assert shown["teacher_values"] == "probabilities at T = 1"
    for token in shown["tokens"]:
        assert sum(value for _, value in token["teacher"]) == pytest.approx(1, abs=0.02)
