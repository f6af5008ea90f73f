"""Every command is documented, docs/cli.md is what the programs say, and links lead somewhere."""

import importlib.util
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).parents[2]
GENERATED = {"node_modules", "results", "quickstart", "build", "dist"}
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")

_spec = importlib.util.spec_from_file_location("docs_cli", ROOT / "tools/docs/cli.py")
assert _spec
assert _spec.loader
docs_cli = importlib.util.module_from_spec(_spec)
sys.path.insert(0, str(ROOT / "tools/docs"))  # as it is when the script runs, which reads the module beside it
try:
    _spec.loader.exec_module(docs_cli)
finally:
    sys.path.remove(str(ROOT / "tools/docs"))

COMMANDS = {path: (command, context) for path, command, context in docs_cli.commands()}


def pages() -> list[Path]:
    """Markdown files of the repository, without what is installed or generated."""
    found = []
    for path in sorted(ROOT.rglob("*.md")):
        folders = path.relative_to(ROOT).parts[:-1]
        if not any(name.startswith(".") or name in GENERATED for name in folders):
            found.append(path)
    return found


def test_the_page_of_commands_is_up_to_date() -> None:
    page = docs_cli.PAGE.read_text(encoding="utf-8") if docs_cli.PAGE.is_file() else ""
    new = set(docs_cli.page().splitlines()) - set(page.splitlines())
    assert page == docs_cli.page(), f"run `{docs_cli.COMMAND}`; new lines: {sorted(new)[:5]}"


def test_every_program_has_commands() -> None:
    for program in docs_cli.PROGRAMS:
        assert [path for path in COMMANDS if path.startswith(f"{program} ")], program


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_and_option_has_help(path: str) -> None:
    command, context = COMMANDS[path]
    assert command.help, f"{path}: the docstring is the manual"
    bare = [p.opts[0] for p in command.get_params(context) if isinstance(p, click.Option) and not p.help]
    assert not bare, f"{path}: options without help: {', '.join(bare)}"


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_shows_an_example_of_itself(path: str) -> None:
    command, _ = COMMANDS[path]
    example = (command.help or "").partition("Example:\n")[2]
    assert re.search(rf"^ +{path} ", example, re.MULTILINE), f"{path}: the docstring has no `Example:` block"


@pytest.mark.parametrize(
    "path", [path for path, (command, _) in COMMANDS.items() if isinstance(command, click.Group)]
)
def test_every_command_in_an_example_exists(path: str) -> None:
    command, _ = COMMANDS[path]
    shown = re.findall(rf"^ +({path} [\w-]+)", command.help or "", re.MULTILINE)
    assert shown
    assert set(shown) <= set(COMMANDS)


def test_options_in_examples_exist() -> None:
    for path, (command, context) in COMMANDS.items():
        known = {name for p in command.get_params(context) for name in (*p.opts, *p.secondary_opts)}
        for line in re.findall(rf"^ +{path}( .*)$", command.help or "", re.MULTILINE):
            if not isinstance(command, click.Group):
                own = line.partition(" -- ")[0]  # what follows is for the command that it runs
                assert set(re.findall(r"(?<= )--[\w-]+", own)) <= known, f"{path}:{line}"


def broken(page: Path, root: Path) -> Iterator[str]:
    """Relative links of a page that lead to no file, or to no heading of it."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for link in (first or second for first, second in LINK.findall(text)):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        if not file.exists() or not file.is_relative_to(root):
            yield f"{page.relative_to(root)}: {link}"
        elif anchor and anchor not in anchors(file):
            yield f"{page.relative_to(root)}: {link}: no such heading"


def anchors(page: Path) -> set[str]:
    """Names of a page's headings, as code hosts make them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_between_pages_lead_somewhere() -> None:
    found = [problem for page in pages() for problem in broken(page, ROOT)]
    assert not found, "\n".join(found)


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "a.md"
    page.write_text(
        "# One two\n[good](a.md) [good](#one-two) [good](https://example.org/x)\n"
        "[bad](b.md) [bad](a.md#three) [out](../c.md)\n```\n[in code](no.md)\n```\n",
        encoding="utf-8",
    )
    assert list(broken(page, tmp_path)) == ["a.md: b.md", "a.md: a.md#three: no such heading", "a.md: ../c.md"]


def test_the_pages_are_found() -> None:
    assert {ROOT / "docs/format.md", ROOT / "docs/errors.md", ROOT / "docs/cli.md"} <= set(pages())


def _command_lines() -> Iterator[tuple[str, list[str]]]:
    """Every call of our programs in the pages' code blocks, as words; CONTRIBUTING invents commands to add."""
    for page in (page for page in pages() if page.name != "CONTRIBUTING.md"):
        for block in re.findall(r"^```[a-z]*\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                line = line.strip().removeprefix("$ ")
                if line.startswith(tuple(f"{program} " for program in docs_cli.PROGRAMS)) and "[OPTIONS]" not in line:
                    yield f"{page.name}: {line}", shlex.split(line, comments=True)


@pytest.mark.parametrize(("where", "words"), [pytest.param(*item, id=item[0]) for item in _command_lines()])
def test_commands_in_the_pages_can_be_given(where: str, words: list[str]) -> None:
    """Their options exist and take such values; nothing is run."""
    path = f"{words[0]} {words[1]}"
    assert path in COMMANDS, f"{where}: no such command"
    command, context = COMMANDS[path]
    command.make_parser(context).parse_args(list(words[2:]))
