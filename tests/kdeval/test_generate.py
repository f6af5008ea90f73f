"""Assertions that a model proposes: their numbers, their order, and what the model is given to read."""

import json
import math
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, PreTrainedTokenizerFast, T5ForConditionalGeneration

from kdeval.cli import main
from kdeval.commands.generate import generate
from kdeval.generate import Candidate, Proposal, Settings, propose
from kdeval.metrics.ast_validity import AstValidity
from kdeval.metrics.tree_sitter_validity import TreeSitterValidity
from kdeval.open_method import dedented, last_method
from kdeval.results import PREDICTIONS, read_predictions
from kdeval.text import assertion_kind, normalise_space
from kdstore.errors import MismatchError, ModelError, RowError, UsageError

from ..random_t5 import save_random_t5
from .conftest import OUTPUT_TOKENS, Evaluate, World, assert_fails, invoke, make_model, make_tokenizer

TEACHER = Path(__file__).parents[3] / "shared" / "models" / "teacher-java"
EXAMPLES = Path(__file__).parents[2] / "examples/java/src"

FOCAL = "int size() {\n    return n + 7;\n}"
TEST = "@Test\nvoid test() {\n    List list = new List();"
IN_A_CLASS = """package demo;

class ListTest {
    void before() {
        clear();
    }

    @Test
    void test() {
        List list = new List();
"""


# The last two are one assertion, and the one before is none in Java 8.
TARGETS = [
    "assertEquals({}, list.size());",
    "assertTrue(list.contains({}));",
    "assertTrue(list instanceof List l);",
    "assertNull(list.get({}), text);",
    "assertNull(list.get({}),  text);",
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny T5 that has seen a few assertions a hundred times: some of what it writes is Java, some is not."""
    root = tmp_path_factory.mktemp("trained")
    tokenizer = make_tokenizer([*TARGETS, FOCAL, TEST])
    save_random_t5(root, len(tokenizer), initializer_factor=1.0, dropout_rate=0.0)
    tokenizer.save_pretrained(root)
    model = T5ForConditionalGeneration.from_pretrained(root).train()
    batch = _batch(tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    model.save_pretrained(root)
    return root


def _batch(tokenizer: PreTrainedTokenizerFast) -> dict[str, torch.Tensor]:
    prompts = [f"{FOCAL.replace('7', str(row))}\n{TEST}" for row in range(15)]
    targets = [TARGETS[row % len(TARGETS)].format(row) for row in range(15)]
    labels = tokenizer(targets, padding=True, return_tensors="pt")
    batch = tokenizer(prompts, padding=True, return_tensors="pt")
    return {
        "input_ids": batch.input_ids,
        "attention_mask": batch.attention_mask,
        "labels": labels.input_ids.masked_fill(labels.attention_mask == 0, -100),
    }


def proposal(model: Path, focal: str = FOCAL, test: str = TEST, **settings: object) -> Proposal:
    chosen = {"device": "cpu", "max_output_tokens": OUTPUT_TOKENS, **settings}
    return propose(model, focal, test, Settings.model_validate(chosen))


def texts(found: Proposal) -> list[str]:
    return [candidate.assertion for candidate in found.candidates]


def written_by(directory: Path, prompt: str, length: int, **search: object) -> dict[str, tuple[float, int]]:
    """What transformers itself writes after a prompt: log-probability and tokens of each text, by its loss."""
    model = T5ForConditionalGeneration.from_pretrained(directory, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    input_ids = torch.tensor([tokenizer(prompt).input_ids])
    end = tokenizer.eos_token_id
    with torch.no_grad():
        rows = model.generate(input_ids=input_ids, max_new_tokens=length, do_sample=False, **search).tolist()
        found = {}
        for ids in rows:
            ids = ids[1 : ids.index(end) + 1] if end in ids else ids[1:]
            loss = model(input_ids=input_ids, labels=torch.tensor([ids])).loss.item()
            found[tokenizer.decode(ids, skip_special_tokens=True)] = -loss * len(ids), len(ids)
    return found


def assert_numbers(candidates: Sequence[Candidate], expected: dict[str, tuple[float, int]]) -> None:
    assert {each.assertion for each in candidates} <= set(expected)
    for each in candidates:
        log_prob, tokens = expected[each.assertion]
        assert each.tokens == tokens
        assert each.log_prob == pytest.approx(log_prob, rel=1e-5)
        assert each.mean_log_prob == pytest.approx(log_prob / tokens, rel=1e-5)
        assert each.probability == pytest.approx(math.exp(log_prob), rel=1e-3)


@pytest.mark.parametrize("length", [3, OUTPUT_TOKENS, 40])
def test_numbers_and_texts_are_those_of_the_model_itself(model: Path, length: int) -> None:
    found = proposal(model, num=8, max_output_tokens=length)
    expected = written_by(model, f"{FOCAL}\n{TEST}", length, num_beams=8, num_return_sequences=8)
    assert len(found.candidates) == len({normalise_space(text) for text in expected}) > 3
    assert_numbers(found.candidates, expected)


def test_candidates_are_ranked_by_their_mean_log_probability(model: Path) -> None:
    found = proposal(model, num=32, sample=True).candidates
    means = [each.mean_log_prob for each in found]
    assert means == sorted(means, reverse=True)
    assert [each.rank for each in found] == list(range(1, 1 + len(means)))
    assert found != sorted(found, key=lambda each: -each.log_prob), "another order than that of the whole texts"


def test_fewer_candidates_are_the_first_of_a_search(model: Path) -> None:
    all_of_them = proposal(model, num=9)
    assert proposal(model, num=2, num_beams=9).candidates == all_of_them.candidates[:2]
    assert proposal(model, num=2).settings.num_beams == 5
    assert all_of_them.settings.num_beams == 9


def test_one_beam_writes_what_an_evaluation_predicts(world: World, evaluated: Evaluate, tmp_path: Path) -> None:
    evaluated(world.raw, max_output_tokens=OUTPUT_TOKENS)
    predictions = [sample.prediction for sample in read_predictions(tmp_path / "run" / PREDICTIONS)]
    rows = [json.loads(line) for line in world.raw.read_text().splitlines()]
    for row, prediction in list(zip(rows, predictions, strict=True))[:6]:
        found = proposal(world.model, row["focal_method"], row["test_method"], num=1, num_beams=1)
        assert texts(found) == [prediction]
    assert len(set(predictions[:6])) > 1


def test_draws_depend_on_the_seed_alone(model: Path) -> None:
    first = proposal(model, sample=True, seed=3)
    torch.rand(7)
    before = torch.get_rng_state()
    assert proposal(model, sample=True, seed=3) == first
    assert torch.equal(torch.get_rng_state(), before)
    assert texts(proposal(model, sample=True, seed=4)) != texts(first)
    assert first.settings.num_beams == 1


def test_a_text_has_the_same_numbers_however_it_was_found(model: Path) -> None:
    """Draws near temperature 0 are what a search with one beam finds; the numbers are at temperature 1."""
    drawn = proposal(model, sample=True, sampling_temperature=1e-3, num=4)
    (greedy,) = proposal(model, num=1, num_beams=1).candidates
    assert texts(drawn) == [greedy.assertion]
    assert drawn.candidates[0].log_prob == pytest.approx(greedy.log_prob, rel=1e-6)
    assert (drawn.written, drawn.repeated) == (4, 3)


def test_candidates_differ_in_more_than_white_space(model: Path) -> None:
    """Of what the model writes in one and in two ways, the likelier one is shown."""
    found = proposal(model, num=16, max_output_tokens=40)
    expected = written_by(model, f"{FOCAL}\n{TEST}", 40, num_beams=16, num_return_sequences=16)
    means: dict[str, dict[str, float]] = {}
    for text, (log_prob, tokens) in expected.items():
        means.setdefault(normalise_space(text), {})[text] = log_prob / tokens
    assert max(len(ways) for ways in means.values()) == 2
    assert set(texts(found)) == {max(ways, key=ways.__getitem__) for ways in means.values()}
    assert found.repeated == 16 - len(means)


def test_what_reaches_the_longest_length_has_no_end(model: Path) -> None:
    """Of these the candidates are the beginnings of others."""
    cut, whole = (proposal(model, num=1, num_beams=1, max_output_tokens=length).candidates[0] for length in (4, 40))
    assert (cut.tokens, cut.finished, whole.finished) == (4, False, True)
    assert whole.assertion.startswith(cut.assertion)
    assert cut.log_prob > whole.log_prob


def test_a_candidate_says_what_the_parsers_and_the_metrics_say(model: Path) -> None:
    found = proposal(model, num=32, max_output_tokens=40)
    assert [each.parses.tree_sitter for each in found.candidates] == TreeSitterValidity().parse(texts(found))
    assert [each.parses.javalang for each in found.candidates] == AstValidity().parse(texts(found))
    assert [each.kind for each in found.candidates] == [assertion_kind(text) for text in texts(found)]
    answers = {(each.parses.javalang, each.parses.tree_sitter) for each in found.candidates}
    assert answers >= {(True, True), (False, True), (False, False)}
    kept = proposal(model, num=32, max_output_tokens=40, valid_only=True)
    assert texts(kept) == [
        each.assertion for each in found.candidates if each.parses.javalang and each.parses.tree_sitter
    ]
    assert [each.rank for each in kept.candidates] == list(range(1, 1 + len(kept.candidates)))
    assert kept.invalid == len(found.candidates) - len(kept.candidates)


# What the model reads


@pytest.mark.parametrize(
    ("test", "text", "name", "lines"),
    [
        (TEST, TEST, "test", (1, 3)),
        (f"{TEST}\n}}\n", TEST, "test", (1, 3)),
        (IN_A_CLASS, TEST, "test", (8, 10)),
        (f"{IN_A_CLASS}    }}\n", TEST, "test", (8, 10)),
        (f"{IN_A_CLASS}    }}\n\n    int after = 1;\n}} // end\n", TEST, "test", (8, 10)),
        (IN_A_CLASS.replace("\n", "\r\n"), TEST, "test", (8, 10)),
        ("void t() { f();\n  for (;;) {\n    g();\n  }", "void t() { f();\n  for (;;) {\n    g();\n  }", "t", (1, 4)),
        ("void t() {\n    f(() -> {\n        g();", "void t() {\n    f(() -> {\n        g();", "t", (1, 3)),
        ("void t() {\n    f(g(() -> {\n        h();", "void t() {\n    f(g(() -> {\n        h();", "t", (1, 3)),
        ("class A {\n  void t() {\n    assertEquals(", "void t() {\n  assertEquals(", "t", (2, 3)),
        ('void t() { f("}}}"); // }\n', 'void t() { f("}}}"); // }', "t", (1, 1)),
        ("class A { void t() { f(); } }", "void t() { f();", "t", (1, 1)),
        ("class A { void t() {} class B { int u() {}\n@X\nvoid é() {} } class C {} }", "@X\nvoid é() {", "é", (2, 3)),
        ("interface A { void t(); default void u() {} void v(); }", "default void u() {", "u", (1, 1)),
        ("class A { void t() { new B() { void u() {} }; } }", "void t() { new B() { void u() {} };", "t", (1, 1)),
    ],
)  # fmt: skip
def test_the_last_method_is_used_up_to_its_end(test: str, text: str, name: str, lines: tuple[int, int]) -> None:
    found = last_method(test)
    assert found is not None
    assert (found.text, found.name, found.lines) == (text, name, lines)


@pytest.mark.parametrize(
    "test",
    [
        "List list = new List();\nlist.add(1);",
        "for (;;) {\n    f();\n}",
        "class Helper { void help() {} }\nHelper helper = new Helper();",
        "void t() {\n    for (int i = 0; i <",
        "void t() {\n    f(1]);",
        "f();\n}",
        "fun test() = 3",
        "interface A { void t(); }",
        "/* void t() { f(); }",
        "{" * 50_000,
    ],
)
def test_where_no_method_can_be_made_out_the_text_is_used_as_it_is(test: str) -> None:
    assert last_method(test) is None


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*Test.java")), ids=lambda path: path.stem)
def test_every_line_of_a_real_test_class_is_a_place_for_an_assertion(path: Path) -> None:
    """Up to the start of any assertion, the last method is the one around it, as text that the class contains."""
    lines = path.read_text(encoding="utf-8").split("\n")
    places = [number for number, line in enumerate(lines) if re.match(r"\s+assert\w+\(", line)]
    for place in places[:: max(1, len(places) // 6)]:
        found = last_method("\n".join(lines[:place]))
        assert found is not None
        first, last = found.lines
        indent = lines[first - 1][: -len(lines[first - 1].lstrip())]
        assert f"{indent}}}" not in lines[first - 1 : place], "it does not end before the assertion"
        assert last <= place
        assert not any(line.strip() for line in lines[last:place])
        assert found.text == dedented("\n".join(lines[first - 1 : last]))


def test_the_form_of_the_texts_does_not_matter(world: World) -> None:
    plain = proposal(world.model)
    indented = "".join(f"\t{line}\n" for line in FOCAL.split("\n"))
    for focal, test in ((indented, TEST), (FOCAL, IN_A_CLASS), (f"\n{FOCAL}\n", f"{IN_A_CLASS}    }}\n}}\n")):
        other = proposal(world.model, focal, test)
        assert other.candidates == plain.candidates
        assert other.prompt.tokens == plain.prompt.tokens
    assert proposal(world.model, test=f"{TEST} list.clear();").candidates != plain.candidates


def test_the_end_of_a_long_prompt_is_read(world: World) -> None:
    whole = proposal(world.model, focal=f"// {'x' * 300}\n{FOCAL}")
    assert (whole.prompt.cut_tokens, whole.prompt.without_focal) == (0, False)
    some = proposal(world.model, focal=f"// {'x' * 300}\n{FOCAL}", max_input_tokens=60)
    assert some.candidates == proposal(world.model, focal=f"// {'x' * 200}\n{FOCAL}", max_input_tokens=60).candidates
    assert (some.prompt.tokens, some.prompt.cut_tokens) == (60, whole.prompt.tokens - 60)
    assert not some.prompt.without_focal
    rest = [proposal(world.model, focal, max_input_tokens=10) for focal in (FOCAL, "void f() {}")]
    assert rest[0].prompt.without_focal
    assert rest[0].candidates == rest[1].candidates


# What cannot be used


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num": 6, "num_beams": 5}, "--num-beams 5 and --num 6"),
        ({"sample": True, "num_beams": 5}, "--num-beams or --sample"),
        ({"top_p": 0.9}, "Expected --sample"),
        ({"sampling_temperature": 0.9}, "Expected --sample"),
    ],
)
def test_settings_that_exclude_each_other_are_refused(world: World, settings: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        proposal(world.model, **settings)


def test_damaged_weights_are_told_of(world: World, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for file in world.model.iterdir():
        (model / file.name).write_bytes(file.read_bytes())
    weights = load_file(model / "model.safetensors")
    save_file(
        {name: tensor * torch.nan for name, tensor in weights.items()}, model / "model.safetensors", {"format": "pt"}
    )
    for settings in ({}, {"sample": True}):
        with pytest.raises(ModelError, match="finite logits"):
            proposal(model, **settings)


def test_a_model_without_its_tokenizer_is_refused(tmp_path: Path) -> None:
    big = make_tokenizer(["assertEquals(1, list.size());"] * 3)
    with pytest.raises(MismatchError, match="tokenizer of at most 60 ids"):
        proposal(make_model(tmp_path / "model", 60, big))
    with pytest.raises(ModelError, match="Expected a tokenizer in"):
        proposal(make_model(tmp_path / "bare", 320, None))
    with pytest.raises(ModelError, match="Got nothing there"):
        proposal(tmp_path / "nothing")


@pytest.mark.parametrize(("focal", "test"), [("", TEST), (FOCAL, " \n\t")])
def test_empty_texts_are_refused(world: World, focal: str, test: str) -> None:
    with pytest.raises(RowError, match="Expected text under"):
        proposal(world.model, focal, test)


# The command


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Options that name files: --focal and --test."""
    contents = {"--focal": FOCAL, "--test": TEST}
    paths = {option: tmp_path / f"{option[2:]}.java" for option in contents}
    for option, path in paths.items():
        path.write_text(contents[option])
    return paths


def run(model: Path, files: dict[str, Path], *more: object) -> Result:
    options = [part for option in files.items() for part in option]
    length = [] if "--max-output-len" in more else ["--max-output-len", OUTPUT_TOKENS]
    return invoke("generate", "--model", model, *options, "--device", "cpu", *length, *more)


def test_json(world: World, files: dict[str, Path]) -> None:
    result = run(world.model, files, "--json", "--num", 3)
    assert result.exit_code == 0, result.output
    expected = proposal(world.model, num=3)
    assert Proposal.model_validate(json.loads(result.stdout)) == expected
    assert re.fullmatch(r"[0-9a-f]{64}", expected.weights_sha256)
    assert set(json.loads(result.stdout)["candidates"][0]) == {
        "rank", "assertion", "log_prob", "mean_log_prob", "probability", "tokens", "finished", "parses", "kind",
    }  # fmt: skip
    assert result.stderr == ""
    assert run(world.model, files, "--json", "--num", 3).stdout == result.stdout


READS = {(True, True): "yes", (False, True): "tree-sitter only", (False, False): "does not parse"}
ROW = re.compile(rf"(\d+) .* (\S+) +(-\S+)  (\w+) +({'|'.join(READS.values())})(, no end)? *")


def shown(model: Path, files: dict[str, Path], **settings: object) -> tuple[list[Candidate], str]:
    """Candidates, and the table that the command prints of them: of every one a row that says what it is."""
    options = {"num": "--num", "sampling_temperature": "--sampling-temperature"}
    more = [part for name, option in options.items() if name in settings for part in (option, settings[name])]
    found = proposal(model, **settings).candidates
    result = run(model, files, *more, *(["--sample"] if "sample" in settings else []))
    assert result.exit_code == 0, result.output
    rows = [match.groups(default="") for line in result.stdout.splitlines() if (match := ROW.fullmatch(line))]
    assert rows == [
        (
            str(each.rank),
            f"{each.probability:.2g}",
            f"{each.mean_log_prob:.3f}",
            each.kind,
            READS[each.parses.javalang, each.parses.tree_sitter],
            "" if each.finished else ", no end",
        )
        for each in found
    ]
    return found, result.stdout


def test_table(model: Path, files: dict[str, Path]) -> None:
    found, table = shown(model, files, num=32)
    assert all(
        READS[answer] in table for answer in {(each.parses.javalang, each.parses.tree_sitter) for each in found}
    )
    assert {each.finished for each in found} == {True, False}
    assert all(each.assertion in table for each in found if each.assertion.isprintable())


def test_a_terminal_finds_nothing_to_obey_in_a_table(model: Path, files: dict[str, Path]) -> None:
    found, table = shown(model, files, num=64, sample=True, sampling_temperature=1.5)
    assert any("\0" <= letter < "\n" for each in found for letter in each.assertion)
    assert all(letter.isprintable() or letter == "\n" for letter in table)


def test_notes(world: World, files: dict[str, Path]) -> None:
    files["--test"].write_text(f"{IN_A_CLASS}    }}\n}}\n")
    cut = run(world.model, files, "--max-input-len", 10).stderr.splitlines()
    assert cut[0] == "of --test, lines 8 to 10 are used: test, up to the end of its body"
    tokens = proposal(world.model).prompt.tokens
    assert (
        cut[1]
        == f"the prompt is cut to 10 tokens: {tokens - 10} on the left are left out; nothing of --focal is left"
    )
    files["--test"].write_text("List list = new List();")
    repeated = run(
        world.model, files, "--sample", "--sampling-temperature", 0.001, "--valid-only"
    ).stderr.splitlines()
    assert repeated == [
        "no method can be made out in --test: it is used as it is",
        "0 of 5 texts that the model wrote: 4 repeat another, 1 do not parse",
    ]


def test_standard_input(world: World, files: dict[str, Path]) -> None:
    expected = run(world.model, files, "--json").stdout
    for option, path in files.items():
        arguments = [*({**files, option: Path("-")}).items()]
        result = CliRunner().invoke(
            main,
            ["generate", "--model", str(world.model), "--device=cpu", f"--max-output-len={OUTPUT_TOKENS}", "--json"]
            + [str(part) for pair in arguments for part in pair],
            # As an editor of another system saves it: with a mark of its encoding, and its line ends.
            input=b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"),
        )
        assert result.stdout == expected, result.stderr
    both = invoke("generate", "--model", world.model, "--focal", "-", "--test", "-")
    assert_fails(both, 2, "Expected --focal or --test as a file")


@pytest.mark.parametrize("option", ["--focal", "--test"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file or directory"),
        (b"", "nothing but space"),
        (b" \r\n\t", "nothing but space"),
        (b"void \xff() {", "the first at 5"),
        (b"\xff\xfev\0o\0i\0d\0", "UTF-8"),
        (b" " * 1_000_001, "at most 1,000,000 bytes"),
    ],
    ids=["missing", "empty", "blank", "no UTF-8", "UTF-16", "enormous"],
)
def test_files_that_cannot_be_used(
    world: World, files: dict[str, Path], option: str, content: bytes | None, words: str
) -> None:
    files[option].unlink()
    if content is not None:
        files[option].write_bytes(content)
    assert_fails(run(world.model, files), 3, option, words, str(files[option]))


def test_a_directory_is_no_file(world: World, files: dict[str, Path], tmp_path: Path) -> None:
    assert_fails(run(world.model, {**files, "--test": tmp_path}), 3, "--test", "Is a directory")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--num", 0), "--num"),
        (("--num", 65), "--num"),
        (("--num", 6, "--num-beams", 5), "--num-beams"),
        (("--sample", "--top-p", 0), "top_p"),
        (("--sample", "--sampling-temperature", "nan"), "sampling_temperature"),
        (("--sample", "--seed", 1 << 63), "seed"),
    ],
)
def test_wrong_arguments(world: World, files: dict[str, Path], arguments: tuple[object, ...], word: str) -> None:
    assert_fails(run(world.model, files, *arguments), 2, word)


def test_the_examples_of_the_manual_work(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results/run").mkdir(parents=True)
    (tmp_path / "results/run/final_model").symlink_to(world.model)
    (tmp_path / "Focal.java").write_text(FOCAL)
    (tmp_path / "Test.java").write_text(TEST)
    examples = (generate.help or "").partition("Example:")[2].strip().splitlines()
    assert len(examples) == 3
    for example in examples:
        command, _, file = example.partition(" < ")
        program, *arguments = shlex.split(command)
        text = Path(file.strip()).read_text() if file else None
        result = CliRunner().invoke(main, [*arguments, "--max-output-len", "12"], input=text)
        assert (program, result.exit_code) == ("kdeval", 0), result.output


# A model that was trained


@pytest.fixture(scope="module")
def trained() -> Path:
    if not TEACHER.is_dir():
        pytest.skip("needs ../shared/models/teacher-java")
    return TEACHER


CACHE = "public int size() {\n    return entries.size();\n}"
CACHE_TEST = """class CacheTest {
    @Test
    public void testSize() {
        Cache cache = new Cache(2);
        cache.put("one", 1);
        cache.put("two", 2);
    }
}
"""


def test_a_trained_model_proposes_assertions_that_parse(trained: Path) -> None:
    found = proposal(trained, CACHE, CACHE_TEST, max_output_tokens=64)
    assert len(found.candidates) == 5
    assert all(each.finished for each in found.candidates[:3])
    assert all(each.parses.javalang and each.parses.tree_sitter for each in found.candidates[:3])
    assert all(each.kind.startswith("assert") for each in found.candidates)
    assert (found.prompt.test_method, found.prompt.test_lines) == ("testSize", (2, 6))
    assert sum(each.probability for each in found.candidates) < 1


def test_a_trained_models_numbers_are_its_own(trained: Path) -> None:
    test = 'public void testSize() {\n    Cache cache = new Cache(2);\n    cache.put("one", 1);'
    found = proposal(trained, CACHE, test, num=4, max_output_tokens=32)
    expected = written_by(trained, f"{CACHE}\n{test}", 32, num_beams=5, num_return_sequences=5)
    assert len(found.candidates) == 4
    assert_numbers(found.candidates, expected)
    assert max(mean for mean in (each.mean_log_prob for each in found.candidates)) == pytest.approx(
        max(log_prob / tokens for log_prob, tokens in expected.values()), rel=1e-5
    )
