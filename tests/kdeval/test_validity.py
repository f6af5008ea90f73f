"""Which texts are Java statements, by three parsers: they agree where they should, and no text stops them."""

import gzip
import json
import random
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from kdeval.metrics import METRICS, Context
from kdeval.metrics._javac import Jdk, find_jdk
from kdeval.metrics._validity import Validity, as_source
from kdeval.metrics.tree_sitter_validity import TreeSitterValidity
from kdeval.samples import Sample
from kdstore.errors import CapabilityError
from kdstore.parsing import MAX_CHARACTERS

from .hard_texts import ANY_TEXT, EXTREMES

PAIRS = [json.loads(line) for line in (Path(__file__).parent / "pairs.jsonl").read_text("utf-8").splitlines()]
SHARED = Path(__file__).parents[3] / "shared" / "data" / "java"
PARSERS = ("ast_validity", "tree_sitter_validity", "javac_validity")


def parser(name: str) -> Validity:
    try:
        made = METRICS.get(name).create(Context())
    except CapabilityError as error:
        pytest.skip(str(error))
    assert isinstance(made, Validity)
    return made


VALID = [
    "assertEquals(1, f(x));",
    "int x = 1;\nassertTrue(x > 0);",
    "assertTrue(a); // why",
    "assertThrows(E.class, () -> { f(); });",
    "{ f(); }",
    ";",
]
INVALID = [
    "",
    " \n",
    "// f();",
    "/* f(); */",
    "assertEquals(1, f(x))",
    "assertEquals(1, ;",
    "f(); /* not closed",
    'f("not closed);',
    "f(); }",
    "{ f();",
    "} void g() {",
    "f(); } void g() { f();",
    "} {",
    "} static {",
    "} class B {",
    "};",
    "f(); } } class C { void g() {",
    "f();\n} }",
    "f();\n} }\x1a",  # where some lexers end
    "\\u007d void g() \\u007b f();",
    "f(); \\",
    "\0",
    "\ud800",
    "@A(",
    "do {",
]
MODERN = [
    "assertEquals(1, switch (x) { case 1 -> 2; default -> 3; });",
    'assertEquals("""\n  a "b"\n  """, x);',
    "record P(int x) {} assertNull(new P(1));",
    "if (x instanceof String s) { f(s); }",
]


@pytest.mark.parametrize("name", PARSERS)
def test_what_parsers_agree_on(name: str) -> None:
    found = parser(name).parse([*VALID, *INVALID])
    assert dict(zip([*VALID, *INVALID], found, strict=True)) == dict.fromkeys(VALID, True) | dict.fromkeys(
        INVALID, False
    )


@pytest.mark.parametrize(("name", "valid"), [*zip(PARSERS, (False, True, True), strict=True)])
def test_current_java(name: str, valid: bool) -> None:
    assert parser(name).parse(MODERN) == [valid] * len(MODERN)


@pytest.mark.parametrize(("name", "valid"), [*zip(PARSERS, (True, True, False), strict=True)])
def test_an_expression_is_a_statement_for_lenient_parsers(name: str, valid: bool) -> None:
    assert parser(name).parse(["1;", "(a.b());", "x;"]) == [valid] * 3


@pytest.mark.parametrize("name", PARSERS)
def test_a_text_is_too_long_from_one_length_on(name: str) -> None:
    longest = "f();" + " " * (MAX_CHARACTERS - 4)
    assert parser(name).parse([longest, longest + " ", "f();"]) == [True, False, True]


@pytest.mark.parametrize("name", PARSERS)
def test_equal_predictions_have_equal_values_in_their_order(name: str) -> None:
    texts = ["f();", "f(", "f();", "", "f("]
    assert parser(name).measure([Sample("1", prediction=text) for text in texts])[:, 0].tolist() == [1, 0, 1, 0, 0]


@pytest.mark.parametrize("name", PARSERS)
def test_no_text_stops_a_parser(name: str) -> None:
    deep = ["f(" * 6000 + ")" * 6000 + ";", "{" * 10_000 + "}" * 10_000]
    found = parser(name).parse([*EXTREMES, *deep, "f();"])
    assert found[-1]
    assert found[-3:-1] == [name != "ast_validity"] * 2, "javalang runs out of stack"
    unpaired = EXTREMES.index('f("\udfff");')
    assert found[unpaired] == (name == "ast_validity"), "no source file can hold it, but javalang reads no files"
    assert not any(found[:unpaired] + found[unpaired + 1 : len(EXTREMES)])


# To shrink an example would start a JVM for each attempt.
@settings(max_examples=3, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ANY_TEXT, min_size=100, max_size=200, unique=True))
def test_current_parsers_of_any_texts(texts: list[str]) -> None:
    for name in PARSERS[1:]:
        made = parser(name)
        found = made.parse(texts)
        assert found == made.parse(texts[::-1])[::-1], "texts do not depend on one another"
        assert not any(valid for text, valid in zip(texts, found, strict=True) if as_source(text) is None)


def test_javac_reads_escapes_before_comments_and_tree_sitter_does_not() -> None:
    texts = ["f(); // \\u000a }", "f(); // \\u000a g();", "f\\u0028\\u0029;"]
    assert parser("javac_validity").parse(texts) == [False, True, True]
    assert parser("tree_sitter_validity").parse(texts) == [True, True, False]


def test_what_tree_sitter_has_no_time_for_is_invalid() -> None:
    texts = ["f();" * 1000, "f(" * 1000]
    assert TreeSitterValidity().parse(texts) == [True, False]
    assert TreeSitterValidity(limit_s=0).parse(texts) == [False, False]


def test_three_parsers_agree_on_real_pairs() -> None:
    texts = list({pair[side]: None for pair in PAIRS for side in ("reference", "prediction")})
    first, second, third = (parser(name).parse(texts) for name in PARSERS)
    assert first == second == third
    assert {True, False} == {*first}


def test_parsers_agree_on_assertions_of_known_projects() -> None:
    files = sorted(SHARED.glob("*.jsonl.gz"))
    if not files:
        pytest.skip("needs ../shared/data/java")
    lines = [line for path in files for line in gzip.decompress(path.read_bytes()).splitlines()]
    rows = [json.loads(line)["assertion"] for line in lines]
    texts = random.Random(0).sample(sorted({*rows}), 200)
    first, second, third = (parser(name).parse(texts) for name in PARSERS)
    assert first == second == third
    assert sum(first) >= 195  # a comment at the end of a line swallows the rest of an assertion joined to one line


# --- the JDK


def program(directory: Path, script: str) -> None:
    """A program ``java`` that is found first."""
    path = directory / "java"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (None, r"Got no program java on PATH\. Install a JDK"),
        ("echo java.base@17", r"java without the module jdk\.compiler\. Install a JDK"),
        ("exit 1", r"java without the module jdk\.compiler\. Install a JDK"),
        ("kill -9 $$", r"java without the module jdk\.compiler\. Install a JDK"),
    ],
)
def test_without_a_jdk_there_is_no_metric(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, message: str
) -> None:
    if script:
        program(tmp_path, script)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CapabilityError, match=f"^Expected a JDK. .*{message}"):
        METRICS.get("javac_validity").create(Context())


def test_a_file_that_is_no_program_is_no_jdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "")
    (tmp_path / "java").write_bytes(b"\x7fELF")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CapabilityError, match=r"^Expected a JDK\. Got: .*Exec format error"):
        METRICS.get("javac_validity").create(Context())


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo boom >&2; exit 3", "0 answers, then it ended with code 3: boom"),
        ("printf 1; echo no memory >&2; kill -9 $$", "1 answers, then it ended with code -9: no memory"),
        ("cat > /dev/null; printf 1", "1 answers, then it ended with code 0: no message"),
    ],
)
def test_a_jdk_that_dies_is_an_error(tmp_path: Path, script: str, message: str) -> None:
    program(tmp_path, script)
    with pytest.raises(CapabilityError, match=rf"^Expected .*java to parse 2 texts\. Got {message}\. Install"):
        Jdk(str(tmp_path / "java"), "17").parse([b"f();", b"g();"])


@pytest.fixture
def jdk() -> Jdk:
    try:
        return find_jdk()
    except CapabilityError as error:
        pytest.skip(str(error))


def test_a_jvm_says_why_it_does_not_start(jdk: Jdk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-XX:NoSuchOption")
    with pytest.raises(CapabilityError, match="ended with code 1: Unrecognized VM option 'NoSuchOption'"):
        jdk.parse([b"f();"])


def test_no_other_class_of_that_name_is_run(
    jdk: Jdk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "Parse.class").write_bytes(b"not a class")
    monkeypatch.setenv("CLASSPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert jdk.parse([b"f();", b"f("]) == [True, False]
    assert capfd.readouterr() == ("", "")


def test_the_implementation_names_the_version(jdk: Jdk) -> None:
    assert parser("javac_validity").implementation == f"jdk.compiler {jdk.version}"
    assert jdk.version[0].isdigit()
