"""Write docs/configuration.md from the parameters of `kdtrain.sections`, and the built-in recipes and presets."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import click
import marked

from kdtrain.config import Config, built_in, sections
from kdtrain.kinds import STUDENT, TEACHER
from kdtrain.sections import PLACES

PAGE = Path(__file__).resolve().parents[2] / "docs/configuration.md"
COMMAND = "python tools/docs/configuration.py"

_TOP = f"""# Configuration

Generated from the parameters themselves by `{COMMAND}`; do not edit.

A run of `kdtrain student` or `kdtrain teacher` has these parameters. Each comes from one of five layers, of which
later ones win:

1. its default, in the tables below;
2. the **recipe**: `--recipe`, a TOML file or a built-in one, `{STUDENT.recipe}` or `{TEACHER.recipe}` unless said;
3. the **preset**: `--preset`, a TOML file or a built-in one, for what to add to any recipe;
4. its **option**: the name with two dashes, `--batch-size 8` or `--batch_size 8`; lists as words or with commas,
   `--loss-weights 0.4 0.6`; a switch is turned off by `--no-...`;
5. **`--set section.name=value`**, with a value in TOML or a bare word; may be repeated.

`kdtrain show-config` prints all values with where they come from; it takes the options of a run. A run keeps them in
`config.json`, whose SHA-256 lies beside it, and where they came from in `config_sources.json`.

* A recipe is a TOML file with these sections. Unknown names are refused, with the nearest known one.
* `none` takes back the value of a parameter that may be not set.
* Naming `model_name` in a layer forgets what lower ones say of `from_scratch`; naming `loss_function` or
  `loss_components` forgets their components, weights and `introduce_at`.
* What is given by option or `--set` and does nothing beside the other values is refused, such as `--pans-weight`
  without `pans`. Recipes and presets may hold such values.
* For a teacher the loss is cross-entropy of the labels whatever a layer says; it has the options
  `--enable-token-weighting` and `--critical-token-weight` of it.

**Where its effect shows** names a column of a file in the run directory ([logs.md](logs.md)), or one of these:
"""


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; exit code 1 when the page is not up to date.")
def main(check: bool) -> None:
    """Write docs/configuration.md from the parameters of kdtrain.

    \b
    Example:
        python tools/docs/configuration.py
        python tools/docs/configuration.py --check
    """
    marked.settle(PAGE, page(), COMMAND, check=check)
    if not check:
        click.echo(f"{PAGE.name}: {sum(len(section.model_fields) for section in sections().values())} parameters")


def page() -> str:
    """The text of docs/configuration.md."""
    parts = [_TOP, "\n".join(f"* *{place}*: {meaning};" for place, meaning in PLACES.items())[:-1] + ".\n"]
    for name, section in sections().items():
        defaults = getattr(Config(), name).model_dump(mode="json")
        rows = [
            [
                f"`{key}`",
                _shown(defaults[key]),
                (field.description or "").replace("|", "\\|"),
                _probe(field.json_schema_extra),
            ]
            for key, field in section.model_fields.items()
        ]
        table = marked.table(["name", "default", "meaning", "where its effect shows"], rows)
        parts.append(f"## {name}\n\n{section.__doc__}\n\n{table}\n")
    for kind in ("recipe", "preset"):
        parts.append(f"## Built-in {kind}s\n")
        parts += [_toml(kind, name) for name in built_in(kind)]
    return "\n".join(parts)


def _toml(kind: str, name: str) -> str:
    """A built-in file."""
    text = files("kdtrain").joinpath(f"{kind}s", f"{name}.toml").read_text(encoding="utf-8")
    return f"### `{name}`\n\n```toml\n{text.strip()}\n```\n"


def _shown(value: Any) -> str:
    """A default as a cell."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"`{value}`" if value != [] else "none"


def _probe(extra: Any) -> str:
    """Where an effect shows, as a cell."""
    place, _, detail = extra["probe"].partition(": ")
    if not detail:
        return f"*{place}*"
    return f"`{place}`: `{detail}`" if place.endswith(".csv") else f"`{place}`: {detail}"


if __name__ == "__main__":
    main()
