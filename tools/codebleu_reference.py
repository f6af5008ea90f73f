"""Write what the published CodeBLEU says of the test pairs, for the test that compares ours with it.

    python3.11 -m venv reference
    reference/bin/pip install tree-sitter==0.26.1 tree-sitter-java==0.23.5
    reference/bin/pip install --no-deps codebleu==0.7.0
    reference/bin/python tools/codebleu_reference.py

writes tests/kdeval/codebleu_expected.json. The package asks for tree-sitter 0.22, hence ``--no-deps``; it runs on the
versions of constraints.txt as it is, so that the grammar is the same on both sides. With those that it asks for
(0.22.3, grammar 0.21.0) the numbers in the file are the same.

Two settings differ from the package's own. Its tokenizer is our `java_tokens`. Its sets keep their order, because the
share of data flow depends on it otherwise, and so on Python's hash seed; ``dataflow_by_seed`` holds its least and
greatest value under ten seeds without that.
"""

import importlib.util
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import codebleu
from codebleu import dataflow_match
from codebleu.parser import DFG

ROOT = Path(__file__).resolve().parents[1]
PAIRS = ROOT / "tests/kdeval/pairs.jsonl"
TARGET = ROOT / "tests/kdeval/codebleu_expected.json"
AS_PUBLISHED = "--as-published"
SEEDS = range(10)
VALUES = ("codebleu", "ngram_match_score", "weighted_ngram_match_score", "syntax_match_score", "dataflow_match_score")

Pair = tuple[str, str]

# Reference and prediction: every construct that makes data flow, and texts that are in error.
PROGRAMS: list[Pair] = [
    ("int a = b;", "int a = c;"),
    ("int a; a = 1; a += b; use(a);", "int x; x = 1; x = x + b; use(x);"),
    ("int sum = a + b * c; return sum;", "int total = c * a + b; return total;"),
    ("int a; use(a);", "int a = b; use(a);"),
    ("f(z, z); x = this; f(x);", "f(z, z); x = a; f(x);"),
    ("i++; f(i);", "int i = i; f(i);"),
    ("i++; --j; a[i]++; a[i + j] = b[j]; this.size = size;", "++i; j--; a[j]++; b[i] = a[i + j]; size = this.size;"),
    ("x = y = z = 0; f(x, y, z);", "x = 0; y = x; z = y; f(z, y, x);"),
    (
        "if (a > b) { m = a; } else { m = b; } return m;",
        "if (b < a) m = a; else m = b; return m;",
    ),
    ("if (c) { x = 1; } else { use(x); }", "if (c) { y = 1; } else { use(z); }"),
    ("int b = c; if (a > 0) { if (a > 1) f(b); }", "int b = c; if (a > 0) if (a > 1) f(b);"),
    (
        "if (a) if (b) x = 1; else x = 2; return x;",
        "if (a) { if (b) { x = 1; } else { x = 2; } } return x;",
    ),
    (
        'if (n == 0) s = "none"; else if (n == 1) s = "one"; else { s = "many"; n = 2; } print(s, n);',
        'if (n == 1) { s = "one"; } else { s = "none"; } print(n, s);',
    ),
    (
        "int s = 0; for (int i = 0; i < n; i++) { s += a[i]; last = s; } return s + last;",
        "int s = 0; int i = 0; while (i < n) { s = s + a[i]; last = s; i++; } return s + last;",
    ),
    (
        "for (i = 0, j = n; i < j; i++, j--) swap(a, i, j);",
        "for (int i = 0, j = n; i < j; ++i, --j) { swap(a, j, i); }",
    ),
    (
        "int t = 0; for (String name : names) { t += name.length(); longest = name; } return t;",
        "int t = 0; for (int i = 0; i < names.size(); i++) { String name = names.get(i); t += name.length(); }",
    ),
    (
        "while (lo < hi) { int mid = (lo + hi) / 2; if (a[mid] < x) lo = mid + 1; else hi = mid; } return lo;",
        "while (lo < hi) { int mid = lo + (hi - lo) / 2; if (a[mid] >= x) hi = mid; else lo = mid + 1; } return hi;",
    ),
    (
        "for (int i = 0; i < n; i++) for (int j = 0; j < i; j++) { m[i][j] = m[j][i]; while (k > j) k -= m[i][k]; }",
        "for (int i = 0; i < n; i++) { for (int j = i; j < n; j++) { m[j][i] = m[i][j]; k = m[i][k]; } }",
    ),
    ("do { x = next(x); n++; } while (x != null); return n;", "while (x != null) { n++; x = next(x); } return n;"),
    (
        "try (Reader in = open(path)) { text = in.read(); } catch (IOException e) { log(e); text = null; } finally "
        "{ n++; } return text;",
        "try { text = open(path).read(); } catch (Exception e) { text = null; log(e, path); } return text;",
    ),
    (
        "names.stream().map(name -> name.trim()).filter(n -> { int k = n.length(); return k > min; }).toList();",
        "names.stream().map(String::trim).filter(n -> n.length() > min).toList();",
    ),
    (
        "switch (c) { case 'a': x = 1; break; case 'b': x = 2; default: y = x; } use(x, y);",
        "x = switch (c) { case 'a' -> 1; case 'b' -> 2; default -> y; }; use(x, y);",
    ),
    (
        "Comparator<String> c = new Comparator<>() { public int compare(String a, String b) { int d = a.length(); "
        "return d - b.length(); } }; sort(list, c);",
        "Comparator<String> c = (a, b) -> a.length() - b.length(); sort(list, c);",
    ),
    (
        """@Test
public void adds() {
    List<Integer> list = new ArrayList<>();
    // one to three
    for (int i = 1; i <= 3; i++) {
        list.add(i);
    }

    int sum = 0;
    for (int n : list) {
        sum += n;
    }
    assertEquals(6, sum);
}""",
        """@Test
void adds() {
    List<Integer> list = List.of(1, 2, 3);
    int sum = list.stream().mapToInt(n -> n).sum(); /* all

    of them */
    assertEquals(6, sum);
}""",
    ),
    (
        'String s = "a // b"; /* s */ char q = \'"\'; f(s, q); // f(q)',
        "String s = \"a /* b\"; char q = '\\''; f(s, q);",
    ),
    ('a = 1; f("a", a, "b\\n", "");', 'a = 1; f("a", b, "b", "");'),
    ("int/* no */a = b; for (; a;) f(a);", "int a = b; for (a;;) f(a);"),
    ('String t = """\n    a\n\n    b\n    """; f(t, t.length());', 'String t = "a"; f(t.length(), t);'),
    ("boolean b = a ? x : y; Object o = (Foo) b; o = o instanceof Foo f ? f : null;", "b = a ? y : x; o = (Bar) b;"),
    ("record Point(int x, int y) { Point { x = -x; } int sum() { return x + y; } }", "class P { int x = -y, y; }"),
    # Broken off, and not closed.
    ("int a = f(b); g(a", "int a = f(b); g(a);"),
    ("int a = b; return a", "int a = b; return a;"),
    ("f(e{\n  \n  //\n    }}", "f(e{\n}}"),
    ("int a = f(b); assertEquals(a, g(a, b));", "int a = f(b); assertEquals(a, g(a"),
    ("for (int i = 0; i < n; i++) { s += i; }", "for (int i = 0; i < n; i++ { s += i; "),
    ('assertEquals("x", a.get(0)); a.set(0, b);', 'assertEquals("x, a.get(0)); a.set(0, b);'),
    ("int a = 1; int b = a; int c = a + b;", "int = 1; int b = ; c a + ) b ] 'x @ # \\ \"y\nint c = a + b;"),
]


class InOrder(dict[Any, None]):
    """What the package does with its sets, but with the order in which the values came."""

    def __init__(self, values: Iterable[Any] = ()) -> None:
        super().__init__(dict.fromkeys(values))

    def add(self, value: Any) -> None:
        """Add one."""
        self[value] = None


def values_of(pairs: list[Pair]) -> list[float]:
    """The package's numbers of a set of pairs, in the order of `VALUES`."""
    references, predictions = zip(*pairs, strict=True)
    found = codebleu.calc_codebleu(list(references), list(predictions), "java", tokenizer=_java_tokens())
    return [float(found[name]) for name in VALUES]


def write() -> None:
    """Write the file anew."""
    published = [_as_published(seed) for seed in SEEDS]
    for module in (dataflow_match, DFG):
        vars(module)["set"] = InOrder
    sets = {"pairs": _read_pairs(), "programs": PROGRAMS}
    expected = {
        "versions": {name: version(name) for name in ("codebleu", "tree-sitter", "tree-sitter-java")},
        "values": VALUES,
        "pairs": [values_of([pair]) for pair in sets["pairs"]],
        "programs": [
            {"reference": pair[0], "prediction": pair[1], "values": values_of([pair]), "dataflow_by_seed": by_seed}
            for pair, by_seed in zip(PROGRAMS, _extremes(published), strict=True)
        ],
        "whole": {name: values_of(pairs) for name, pairs in sets.items()},
    }
    TARGET.write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")


def _as_published(seed: int) -> list[float]:
    """The data-flow share of each program, by the package as it is, under a hash seed."""
    done = subprocess.run(
        [sys.executable, __file__, AS_PUBLISHED], env=os.environ | {"PYTHONHASHSEED": str(seed)}, check=True,
        capture_output=True,
    )  # fmt: skip
    return [float(value) for value in json.loads(done.stdout)]


def _extremes(runs: list[list[float]]) -> list[tuple[float, float]]:
    return [(min(values), max(values)) for values in zip(*runs, strict=True)]


def _read_pairs() -> list[Pair]:
    rows = map(json.loads, PAIRS.read_text(encoding="utf-8").splitlines())
    return [(row["reference"], row["prediction"]) for row in rows]


def _java_tokens() -> Any:
    """Our tokenizer, from its file: importing the package would need what it needs."""
    spec = importlib.util.spec_from_file_location("_text", ROOT / "kdeval/metrics/_text.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.java_tokens


if __name__ == "__main__":
    logging.getLogger().setLevel(logging.ERROR)  # it warns of every pair without data flow
    if AS_PUBLISHED in sys.argv:
        print(json.dumps([values_of([pair])[-1] for pair in PROGRAMS]))
    else:
        write()
