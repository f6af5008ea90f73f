"""What counts as Java, and that deciding it ends."""

import signal
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdstore.java import parses_as_statements, parses_within

JAVA_LIKE = st.text(alphabet="ab1 .,;(){}[]<>=+-\"'\\u@\n/*", max_size=40) | st.text(max_size=30)
KEYWORDS = ["@", "@A", "(", ")", "{", "}", "final", "for", "do", "class", "a", ";", "->", "::", "<", ">", "case", "="]


@pytest.mark.parametrize(
    "text",
    [
        "assertEquals(1, f(x));",
        "assertTrue(a);\nassertNull(b);",
        "assertThrows(E.class, () -> { f(); });",
        'assertThat(x).isEqualTo("}");',
        "assert x > 1 : y;",
        "int x = 1; // one",
    ],
)
def test_java_parses(text: str) -> None:
    assert parses_as_statements(text)


@pytest.mark.parametrize(
    "text",
    [
        "assertEquals(1, f(x))",
        "assertEquals(1, ;",
        "",
        "// only a comment",
        "/* open",
        "} void x() {",
        "}} class B { void t() {",
        "} ; {",
        '"unterminated',
        "do {",
        "\\u-bEf",
        "(" * 5000,
        "{" * 5000 + "}" * 5000,
        "@A(",
        "@ for ( a",
        "@A ( throws x ) ) (",
    ],
)
def test_other_text_does_not_parse_and_always_ends(text: str) -> None:
    assert not parses_as_statements(text)


@settings(max_examples=400, deadline=2000)
@given(st.lists(st.sampled_from(KEYWORDS), max_size=14).map(" ".join) | JAVA_LIKE)
def test_validity_is_decided_for_any_text(text: str) -> None:
    assert parses_as_statements(text) in (True, False)


LEVEL = "a<b> c = x -> {"  # a declaration or a comparison with an assignment: javalang tries both, at every level


def nested(levels: int) -> str:
    """A text that is not Java, which javalang knows after ``2 ** levels`` attempts."""
    return f"{LEVEL * levels}]{'};' * levels}"


def run(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a program: what bounds a worker process is for a whole process."""
    return subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, check=False, timeout=60
    )


GIVE_UP = f"""
import gc, signal, sys, time
from kdstore.java import parses_within

lost = []

def lose_two(phase, info):
    while len(lost) < 2 and signal.getitimer(signal.ITIMER_REAL)[1]:
        pass

if len(sys.argv) == 2:
    sys.unraisablehook = lost.append
    gc.callbacks.append(lose_two)
try:
    parses_within({nested(40)!r}, 0.5)
except TimeoutError:
    print(signal.getitimer(signal.ITIMER_REAL), signal.getitimer(signal.ITIMER_PROF))
    print(signal.getsignal(signal.SIGALRM) is signal.SIG_DFL)
"""


@pytest.mark.parametrize("lose", [[], ["lose"]])
def test_a_text_that_takes_too_long_is_given_up_and_leaves_no_timer(lose: list[str]) -> None:
    """Also where exceptions are raised first where Python can only drop them."""
    result = run(GIVE_UP, *lose)
    assert result.stdout == "(0.0, 0.0) (0.0, 0.0)\nTrue\n", result.stderr


@given(st.lists(st.sampled_from(KEYWORDS), max_size=14).map(" ".join) | JAVA_LIKE | st.just(nested(3)))
def test_a_limit_changes_no_answer(text: str) -> None:
    assert parses_within(text, limit_s=60) == parses_as_statements(text)


def test_the_kernel_ends_a_process_that_cannot_be_interrupted() -> None:
    code = f"""
import signal
from kdstore.java import parses_within
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
parses_within({nested(40)!r}, 0.1)
"""
    assert run(code).returncode == -signal.SIGPROF


def test_a_worker_loads_nothing_heavy() -> None:
    names = run("import sys, kdstore.java; print(*sys.modules)").stdout.split()
    loaded = {name.partition(".")[0] for name in names}
    assert "javalang" in loaded
    assert not loaded & {"torch", "numpy", "pydantic", "transformers", "kdtrain"}
