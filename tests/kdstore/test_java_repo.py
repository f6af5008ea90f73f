import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdstore.errors import InputError
from kdstore.sources import Located
from kdstore.sources._java_files import find_repositories
from kdstore.sources.java_repo import MineReport, mine, read

EXAMPLES = Path(__file__).parents[2] / "examples" / "java"

CACHE = """
package acme;
public class Cache<V> extends Base implements Sized {
    public static final Cache<String> SHARED = new Cache<>(1);
    private final Object lock = new Object() { public int size() { return -1; } };
    public Cache(int limit) { this.limit = limit; }
    public V get(String key) { return map.get(key); }
    public V get(String key, V fallback) { return map.getOrDefault(key, fallback); }
    public void put(String key, V... values) { map.put(key, values[0]); }
    public int size() { return map.size(); }
    public Cache<V> copy() { return new Cache<>(limit); }
    public static Cache<String> of(String... keys) { return new Cache<>(keys.length); }
    @Override public String toString() { return "Cache"; }
    public enum State { COLD, WARM; public boolean isReady() { return this == WARM; } }
    public static class Builder { public Cache<String> build() { return new Cache<>(1); } }
}
"""
BASE = "package acme; abstract class Base { boolean isOpen() { return true; } abstract int weight(); }"
SIZED = "package acme; interface Sized { int size(); boolean isOpen(); default boolean isEmpty() { return true; } }"
UTIL = "package acme; class Util { static String shout(String s) { return s + '!'; } int rare() { return 1; } }"

HEADER = "package acme; import org.junit.jupiter.api.*; import static acme.Util.shout; import java.util.*;\n"


def repository(root: Path, *tests: str, name: str = "CacheTest") -> Path:
    main = root / "src/main/java/acme"
    main.mkdir(parents=True, exist_ok=True)
    for kind, source in {"Cache": CACHE, "Base": BASE, "Sized": SIZED, "Util": UTIL}.items():
        (main / f"{kind}.java").write_text(source)
    body = "\n".join(tests)
    test = root / "src/test/java/acme" / f"{name}.java"
    test.parent.mkdir(parents=True, exist_ok=True)
    test.write_text(f"{HEADER}class {name} {{\n{body}\n}}\n")
    return root


def mined(root: Path, name: str | None = None) -> tuple[list[dict[str, Any]], MineReport]:
    report = MineReport()
    found = find_repositories([root], name, report.skipped)
    return [dict(row) for repo in found for row in mine(repo, report)], report


def only(root: Path, *tests: str, name: str = "CacheTest") -> dict[str, Any]:
    rows, report = mined(repository(root, *tests, name=name))
    assert len(rows) == 1, report
    return rows[0]


def test_one_row_in_full(tmp_path: Path) -> None:
    row = only(
        tmp_path / "box",
        "    /** Says why. */",
        "    @Test",
        "    void sizeGrows() {",
        '        Cache<String> cache = new Cache<>(2); // "two"',
        "        if (cache.size() == 0)",
        "        {",
        "            assertEquals(",
        "                0, cache.size());",
        "        }",
        "    }",
    )
    assert row == {
        "focal_method": "public int size() { return map.size(); }",
        "test_method": "@Test\nvoid sizeGrows() {\n"
        '    Cache<String> cache = new Cache<>(2); // "two"\n    if (cache.size() == 0)\n    {',
        "assertion": "assertEquals( 0, cache.size());",
        "repo": "box",
        "path": "src/test/java/acme/CacheTest.java",
        "line": 9,
        "test_class": "CacheTest",
        "test_name": "sizeGrows",
        "focal_class": "Cache",
        "focal_name": "size",
        "focal_path": "src/main/java/acme/Cache.java",
        "assert_type": "assertEquals",
        "assert_index": 0,
        "n_asserts": 1,
        "match": "A:receiver",
        "overload_sure": True,
    }


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("assertEquals(1, c.size());", "assertEquals"),
        ("Assertions.assertEquals(1, c.size());", "assertEquals"),
        ('assertThat(c.size()).describedAs("n")\n    .isEqualTo(1);', "assertThat"),
        ("assertThat(c.size(), is(equalTo(1)));", "assertThat"),
        ("softly.assertThat(c.size()).isOne();", "assertThat"),
        ("assertThrows(Oops.class, () -> c.size());", "assertThrows"),
        ("assertThrows(Oops.class, () -> { int i = 0; c.size(); });", "assertThrows"),
        ("assertThrows(Oops.class, c::size);", "assertThrows"),
        ("Oops e = assertThrows(Oops.class, () -> c.size());", "assertThrows"),
        ("Oops e; e = assertThrows(Oops.class, () -> c.size());", "assertThrows"),
        ("assertAll(() -> assertEquals(1, c.size()), () -> assertTrue(true));", "assertAll"),
        ("try { assertEquals(1, c.size()); } finally { }", "assertEquals"),
        ("for (int i = 0; i < 1; i++) { assertEquals(1, c.size()); }", "assertEquals"),
        ("run(() -> { assertEquals(1, c.size()); });", "assertEquals"),
    ],
)
def test_styles_of_assertion(tmp_path: Path, statement: str, kind: str) -> None:
    row = only(tmp_path, "@Test void t() { Cache<String> c = new Cache<>(2);", statement, "}")
    assert (row["assert_type"], row["focal_name"], row["match"]) == (kind, "size", "A:receiver")
    assert row["assertion"].endswith(";")
    assert "\n" not in row["assertion"]
    assert "".join(row["assertion"].split()) in "".join(statement.split())


@pytest.mark.parametrize(
    ("body", "focal", "match"),
    [
        ("assertTrue(new Cache<>(1).isOpen());", "isOpen", "A:receiver"),
        ("Cache<String> c = make(); assertTrue(c.isEmpty());", "isEmpty", "A:receiver"),
        ('assertEquals("x", Cache.of("a").copy().get("a"));', "get", "A:receiver"),
        ('assertEquals("x", new Cache.Builder().build().get("a"));', "get", "A:receiver"),
        ('assertEquals("x", Cache.SHARED.get("a"));', "get", "A:receiver"),
        ("assertTrue(Cache.State.WARM.isReady());", "isReady", "A:receiver"),
        ("assertEquals(0, ((Cache) thing).size());", "size", "A:receiver"),
        ('assertEquals("A!", shout("a"));', "shout", "A:receiver"),
        ('assertEquals("A!", Util.shout("a"));', "shout", "A:receiver"),
        ("assertEquals(0, this.field.size());", "size", "A:receiver"),
        ('var c = Cache.of("a"); var s = c.get("a"); String t = s.trim(); assertNull(t);', "get", "A:receiver"),
        ('var c = new Cache<>(1); c.put("a", 1); assertSame(c, c);', "put", "A:receiver"),
        ("for (var s : field.copy()) { assertNotNull(s); }", "copy", "A:receiver"),
        ("assertEquals(Cache.of(), field.copy());", "copy", "A:receiver"),
        ("assertThat(field.copy()).isEqualTo(Cache.of());", "copy", "A:receiver"),
        ('assertEquals("Cache", field.copy().toString());', "copy", "A:receiver"),
        ('assertEquals("Cache", field.toString());', "toString", "A:receiver"),
        ("assertThrows(Oops.class, () -> new Cache<>(-1));", "Cache", "A:constructor"),
        ("assertTrue(inherited.isEmpty());", "isEmpty", "B:test-class"),
        ("assertEquals(1, inherited.size());", "size", "B:test-class"),
        ("assertEquals(1, inherited.rare());", "rare", "C:unique-name"),
        ("assertEquals(1, inherited.rare(3));", None, ""),
        ("List<String> l = List.of(); assertEquals(1, l.rare());", None, ""),
        ("assertEquals(1, rare());", None, ""),
        ("assertTrue(true);", None, ""),
    ],
)
def test_how_the_focal_method_is_found(tmp_path: Path, body: str, focal: str | None, match: str) -> None:
    repository(tmp_path, f"Cache<Long> field; @Test void t() {{ {body} }}")
    rows, report = mined(tmp_path)
    if focal is None:
        assert not rows
        assert report.skipped == {"no focal method found": 1}
    else:
        assert [(row["focal_name"], row["match"]) for row in rows] == [(focal, match)]
        assert report.matches == {match: 1}


def test_a_call_that_the_test_is_named_after_comes_first(tmp_path: Path) -> None:
    body = "Cache<String> c = new Cache<>(1); c.put(null); assertEquals(1, c.size());"
    rows, _ = mined(repository(tmp_path, f"@Test void t() {{ {body} }}", f"@Test void putGrows() {{ {body} }}"))
    assert [row["focal_name"] for row in rows] == ["size", "put"]


@pytest.mark.parametrize("name", ["CacheTest", "TestCache", "CacheTests", "CacheTestCase", "TestCache_Basics"])
def test_the_test_class_names_the_subject(tmp_path: Path, name: str) -> None:
    row = only(tmp_path, "@Test void copy() { assertTrue(true); }", name=name)
    assert (row["focal_name"], row["match"]) == ("copy", "B:test-class")


@pytest.mark.parametrize(
    ("call", "parameters", "sure"),
    [
        ('c.get("a")', "(String key)", True),
        ('c.get("a", "b")', "(String key, V fallback)", True),
        ('c.put("a")', "(String key, V... values)", True),
        ('c.put("a", 1, 2)', "(String key, V... values)", True),
        ('c.get("a", /* why */ "b")', "(String key, V fallback)", True),
        ("c::get", "(String key)", False),
    ],
)
def test_overloads_are_chosen_by_their_arguments(tmp_path: Path, call: str, parameters: str, sure: bool) -> None:
    row = only(tmp_path, f"@Test void t() {{ Cache<String> c = new Cache<>(1); assertNull({call}); }}")
    assert parameters in row["focal_method"]
    assert row["overload_sure"] is sure


def test_a_type_of_the_same_name_from_elsewhere_is_not_the_main_one(tmp_path: Path) -> None:
    repository(tmp_path, "@Test void t() { Cache c = open(); assertEquals(1, c.size()); }", name="OtherTest")
    test = tmp_path / "src/test/java/acme/OtherTest.java"
    test.write_text(test.read_text().replace("import java.util.*;", "import other.Cache;"))
    assert mined(tmp_path)[0] == []


@pytest.mark.parametrize(
    ("method", "tests"),
    [
        ("@Test void t()", 1),
        ("@org.junit.Test(timeout = 5) public void t()", 1),
        ("@ParameterizedTest @ValueSource(ints = {1}) void t(int i)", 1),
        ("public void testX()", 1),
        ("public void test()", 1),
        ("public void testify()", 0),
        ("public void testX(int i)", 0),
        ("public int testX()", 0),
        ("void testX()", 0),
        ("@BeforeEach void t()", 0),
    ],
)
def test_what_a_test_is(tmp_path: Path, method: str, tests: int) -> None:
    _, report = mined(repository(tmp_path, method + " { assertEquals(1, new Cache<>(1).size()); }"))
    assert (report.test_methods, report.rows) == (tests, tests)


def test_nested_classes_see_the_fields_around_them(tmp_path: Path) -> None:
    row = only(tmp_path, "Cache<String> c;", "@Nested class Sizes { @Test void t() { assertEquals(1, c.size()); } }")
    assert (row["test_class"], row["focal_name"]) == ("Sizes", "size")


def test_later_assertions_see_earlier_ones(tmp_path: Path) -> None:
    lines = [f"        assertEquals({n}, c.size());" for n in range(3)]
    head = ["    @Test", "    void t() {", "        Cache<String> c = new Cache<>(1);"]
    rows, _ = mined(repository(tmp_path, *head, *lines, "    }"))
    assert [(row["assert_index"], row["n_asserts"]) for row in rows] == [(0, 3), (1, 3), (2, 3)]
    for n, row in enumerate(rows):
        assert row["test_method"].count("assertEquals") == n
        assert row["test_method"].startswith("@Test\nvoid t() {\n    Cache")


def test_statements_that_joining_would_break_keep_their_lines(tmp_path: Path) -> None:
    comment = "assertEquals(1, // one\n    c.size());"
    block = 'assertEquals("""\n    a\n      b\n    """, c.get("a"));'
    rows, _ = mined(repository(tmp_path, "@Test void t() { Cache<String> c = new Cache<>(1);", comment, block, "}"))
    assert [row["assertion"] for row in rows] == [comment, block]


def test_everything_skipped_is_counted(tmp_path: Path) -> None:
    repository(
        tmp_path,
        "@Test void good() { assertEquals(1, new Cache<>(1).size()); }",
        "@Test void broken() { assertEquals(1, new Cache<>(1).size(); }",
        "@Test void silent() { new Cache<>(1).size(); }",
        "@Test void foreign() { assertTrue(true); }",
    )
    tests = tmp_path / "src/test/java/acme"
    (tests / "LatinTest.java").write_bytes(b"class LatinTest { // \xe9\n }")
    (tests / "HugeTest.java").write_bytes(b" " * ((2 << 20) + 1))
    (tests / "LinkTest.java").symlink_to(tests / "CacheTest.java")
    (tmp_path / "src/main/java/acme/Bad.java").write_text("class Bad { int f() { return ; ) } }")
    rows, report = mined(tmp_path)
    assert len(rows) == report.rows == 1
    assert report.skipped == {
        "syntax error in a test": 1,
        "syntax error in a main method": 1,
        "test without assertion": 1,
        "no focal method found": 1,
        "file is not UTF-8": 1,
        "file larger than 2 MiB": 1,
        "symbolic link": 1,
    }


def test_only_sources_of_the_repository_are_walked(tmp_path: Path) -> None:
    outside = repository(tmp_path / "outside", "@Test void t() { assertEquals(1, new Cache<>(1).size()); }")
    root = tmp_path / "root"
    for folder in ("target", "build", "node_modules", ".hidden", "lib/.git"):
        repository(root / folder, "@Test void t() { assertEquals(1, new Cache<>(1).size()); }")
    (root / "linked").symlink_to(outside)
    assert mined(root)[0] == []
    package = root / "src/main/java/acme/build"
    package.mkdir(parents=True)
    (package / "Plan.java").write_text("package acme.build; public class Plan { public int cost() { return 1; } }")
    test = root / "src/test/java/PlanTest.java"
    test.parent.mkdir(parents=True)
    test.write_text(
        "import acme.build.Plan; class PlanTest { @Test void t() { assertEquals(1, new Plan().cost()); } }"
    )
    assert [row["focal_name"] for row in mined(root)[0]] == ["cost"]


def test_repositories_in_one_directory_are_kept_apart(tmp_path: Path) -> None:
    body = "@Test void t() { assertEquals(1, inherited.rare()); }"
    for name in ("b", "a"):
        repository(tmp_path / name, body)
        (tmp_path / name / ".git").mkdir()
    (tmp_path / "a/.git/config").write_text(
        '[core]\n\tbare = false\n[remote "fork"]\n\turl = git@host:me/fork.git\n'
        '[remote "origin"]\n\turl = https://host.example/acme/lib.git\n'
    )
    rows, _ = mined(tmp_path)
    assert [(row["repo"], row["match"]) for row in rows] == [("acme/lib", "C:unique-name"), ("b", "C:unique-name")]
    assert {row["repo"] for row in mined(tmp_path, "given/name")[0]} == {"given/name"}


def test_overlapping_paths_are_mined_once(tmp_path: Path) -> None:
    root = repository(tmp_path, "@Test void t() { assertEquals(1, new Cache<>(1).size()); }")
    found = find_repositories([root, root / "src", root], None, MineReport().skipped)
    assert [repo.root for repo in found] == [root]


def test_rows_do_not_depend_on_the_order_of_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = repository(tmp_path, "@Test void t() { assertEquals(1, new Cache<>(1).size()); }")
    for name in ("ATest", "ZTest"):
        repository(root, "@Test void t() { assertEquals(1, new Cache<>(1).size()); }", name=name)
    expected = mined(root)
    scan = os.walk
    monkeypatch.setattr(os, "walk", lambda *a, **k: ((f, d, n[::-1]) for f, d, n in scan(*a, **k)))
    assert mined(root) == expected
    assert [row["test_class"] for row in expected[0]] == ["ATest", "CacheTest", "ZTest"]


def test_unix_line_ends_and_no_byte_order_mark(tmp_path: Path) -> None:
    repository(tmp_path, "@Test", "void t() {", "assertEquals(1,\n new Cache<>(1).size()); }")
    for file in tmp_path.rglob("*.java"):
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    rows, _ = mined(tmp_path)
    assert rows
    assert not any("\r" in str(value) for value in rows[0].values())


def test_deep_nesting_does_not_overflow(tmp_path: Path) -> None:
    chain = "new Cache<>(1)" + ".copy()" * 3000
    deep = "(" * 3000 + "1" + ")" * 3000
    rows, _ = mined(repository(tmp_path, f"@Test void t() {{ assertEquals({deep}, {chain}.size()); }}"))
    assert len(rows) == 1


@given(st.text(alphabet=st.sampled_from("@Test void t(){};.,<>\"'/*\nassertEquals(c.size())class "), max_size=120))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_broken_java_never_crashes(tmp_path: Path, text: str) -> None:
    rows, report = mined(repository(tmp_path, "Cache<String> c;", text))
    assert report.rows == len(rows)
    assert report.assertions == len(rows) + report.skipped["no focal method found"]


def test_a_path_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "A.java"
    file.write_text("class A {}")
    for path in (file, tmp_path / "none"):
        with pytest.raises(InputError, match="Expected a directory of Java sources"):
            list(read(path))


def test_the_source_yields_located_rows(tmp_path: Path) -> None:
    items = list(read(repository(tmp_path, "@Test void t() { assertEquals(1, new Cache<>(1).size()); }")))
    assert [type(item) for item in items] == [Located]
    assert items[0].origin == "src/test/java/acme/CacheTest.java:3"


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def test_the_example_library() -> None:
    rows, report = mined(EXAMPLES)
    assert report.rows == len(rows) >= 400
    assert report.rows >= 0.85 * report.assertions
    assert not any("syntax" in reason for reason in report.skipped)
    texts = {path: squeezed((EXAMPLES / path).read_text()) for path in {row["path"] for row in rows}}
    for row in rows:
        assert squeezed(row["test_method"] + row["assertion"]) in texts[row["path"]]
        assert row["focal_path"].startswith("src/main/")
