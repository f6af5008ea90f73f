"""Look at how loss components share a run's loss and gradient, and which beta and weights would balance them.

Works on a finished run and on one that is still going.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Final

import click
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from rich.table import Table

from kdstore.console import note, print_json, stdout
from kdstore.errors import InputError, KDError
from kdtrain.logs.columns import (
    GRADIENTS_FILE,
    METRICS_FILE,
    PLACES,
    STEP_FILE,
    components_of,
    gradient_columns,
    metrics_columns,
    step_columns,
)
from kdtrain.logs.history import History
from kdtrain.logs.scaling import Advice, advise
from kdtrain.logs.table import Numbers, read_table

_MARKS: Final = {STEP_FILE: "total_loss_weighted", METRICS_FILE: "train_loss", GRADIENTS_FILE: "_decoder_norm"}
_COLUMNS: Final = {
    STEP_FILE: step_columns,
    METRICS_FILE: lambda components: metrics_columns(components, ()),
    GRADIENTS_FILE: gradient_columns,
}
_POINTS: Final = 300  # more than a line of this width can show
# Okabe and Ito's colours, told apart by colour-blind readers; dashes tell them apart in grey print.
_STYLES: Final = (
    ("#0072B2", "-"), ("#D55E00", "--"), ("#009E73", "-."), ("#CC79A7", ":"), ("#56B4E9", "-"), ("#E69F00", "--"),
    ("#000000", "-."),
)  # fmt: skip


@dataclass
class Run:
    """Rows of the tables that are there, by file name."""

    components: tuple[str, ...] = ()
    tables: dict[str, list[Numbers]] = field(default_factory=dict)

    def rows(self, name: str) -> list[Numbers]:
        """Of one table; none where it is not there."""
        return self.tables.get(name, [])


@click.command(context_settings={"show_default": True})
@click.option("--training-dir", "--training_dir", type=click.Path(path_type=Path, exists=True, file_okay=False),
              help="A run directory.")  # fmt: skip
@click.option("--log-file", "--log_file", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="One of its tables instead; the others are read where they lie beside it.")  # fmt: skip
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for the pictures; by default analysis/ in the run."
)
@click.option(
    "--share",
    "shares",
    multiple=True,
    metavar="NAME=SHARE",
    help="Wanted share of a component in the gradient, such as semantic=0.2; by default all the same.",
)
@click.option("--json", "as_json", is_flag=True, help="Print all figures as JSON.")
def main(
    training_dir: Path | None, log_file: Path | None, out: Path | None, shares: tuple[str, ...], as_json: bool
) -> None:
    """Draw a run's components, list what looks wrong, and recommend beta and weights.

    \b
    Example:
        python tools/analyse_loss_scaling.py --training-dir results/run
        python tools/analyse_loss_scaling.py --log-file results/run/training_metrics.csv --share semantic=0.2
    """
    if (training_dir is None) == (log_file is None):
        raise click.UsageError("Expected either --training-dir or --log-file.")
    try:
        run = read(training_dir, log_file)
        history = History(run.components, ())
        history.replay(run.rows(STEP_FILE), run.rows(METRICS_FILE), run.rows(GRADIENTS_FILE))
        advice = advise(run.components, run.rows(GRADIENTS_FILE), run.rows(STEP_FILE), wanted(shares))
    except KDError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    folder = out or (training_dir or Path(str(log_file)).parent) / "analysis"
    pictures = draw(run, folder)
    if as_json:
        print_json(
            {
                "components": history.loss_summary().model_dump(mode="json")["components"],
                "warnings": [warning.model_dump(mode="json") for warning in history.warnings],
                "recommendation": asdict(advice) if advice else None,
                "pictures": [str(path) for path in pictures],
            }
        )
        return
    tell(history, advice)
    for path in pictures:
        note(f"picture in {path}")


def wanted(shares: Sequence[str]) -> dict[str, float]:
    """Shares by component, from the command line."""
    found = {}
    for text in shares:
        name, _, share = text.partition("=")
        try:
            found[name] = float(share)
        except ValueError:
            found[name] = math.nan
        if not 0 < found[name] < 1:
            raise click.BadParameter(f"Expected NAME=SHARE with a share between 0 and 1. Got {text!r}.")
    return found


def read(training_dir: Path | None, log_file: Path | None) -> Run:
    """The tables in a run directory, or one table with those beside it.

    Raises
    ------
    KDError
        There is none, one is damaged, or they are of different runs.
    """
    folder = training_dir or Path(str(log_file)).parent
    paths = {name: folder / name for name in _MARKS if (folder / name).is_file()}
    if log_file:
        paths[_kind(log_file)] = log_file
    if not paths:
        raise InputError(f"Expected {', '.join(_MARKS)} in {folder}. Got none. Name the directory of a run.")
    run = Run()
    for name, path in paths.items():
        _kind(path)
        columns, rows = read_table(path)
        components = components_of(columns)
        for column in _COLUMNS[name](components):
            if column not in columns:
                raise InputError(f"Expected the column {column!r} in {path}. Got none. Name the log of a newer run.")
        if run.components and components != run.components:
            raise InputError(
                f"Expected the components {', '.join(run.components)} in {path}. Got {', '.join(components)}. "
                "Keep tables of one run together."
            )
        run.components, run.tables[name] = components, list(rows)
    return run


def _kind(path: Path) -> str:
    """Which of the tables a file is, by its columns."""
    columns, _ = read_table(path)
    for name, mark in _MARKS.items():
        if any(column.endswith(mark) for column in columns):
            return name
    raise InputError(
        f"Expected one of {', '.join(_MARKS)} in {path}. Got other columns. Name the log of a newer run."
    )


def draw(run: Run, folder: Path) -> list[Path]:
    """Write the pictures for which there are rows."""
    folder.mkdir(parents=True, exist_ok=True)
    steps, metrics, gradients = (run.rows(name) for name in _MARKS)
    found = []
    if steps:
        panels = {f"{kind} loss": _lines(run, steps, f"_loss_{kind}") for kind in ("raw", "weighted")}
        found.append(_picture(folder / "components.png", panels, log=True))
        found.append(_picture(folder / "weights.png", {"weight (without beta)": _lines(run, steps, "_weight")}))
    if metrics:
        total = {name: _points(metrics, f"{name}_loss") for name in ("train", "val")}
        panels = {"loss": total, **{f"{kind}, raw": _lines(run, metrics, "_loss", f"{kind}_") for kind in total}}
        found.append(_picture(folder / "losses.png", panels, log=True))
    if gradients:
        panels = {f"share at the {place}'s output": _lines(run, gradients, f"_{place}_share") for place in PLACES}
        found.append(_picture(folder / "gradients.png", panels))
    return found


Points = list[tuple[float, float]]


def _points(rows: Sequence[Numbers], column: str) -> Points:
    """(step, value) of a column; long ones as means over neighbours."""
    points = [
        (row["step"] or 0.0, value) for row in rows if (value := row[column]) is not None and math.isfinite(value)
    ]
    size = -(-len(points) // _POINTS)
    groups = [points[start : start + size] for start in range(0, len(points), size or 1)]
    return [(sum(a for a, _ in group) / len(group), sum(b for _, b in group) / len(group)) for group in groups]


def _lines(run: Run, rows: Sequence[Numbers], suffix: str, prefix: str = "") -> dict[str, Points]:
    return {name: _points(rows, f"{prefix}{name}{suffix}") for name in run.components}


def _picture(path: Path, panels: Mapping[str, Mapping[str, Points]], log: bool = False) -> Path:
    """A PNG with a panel for each group of lines, all over steps."""
    figure = Figure(figsize=(5.2 * len(panels), 3.8), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes: Sequence[Axes] = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (title, lines) in zip(axes, panels.items(), strict=True):
        values = [value for points in lines.values() for _, value in points]
        if log and values and min(values) > 0:
            axis.set_yscale("log")
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
            axis.yaxis.set_minor_locator(NullLocator())
        elif values:
            axis.set_ylim(bottom=min(0.0, *values))
        for (name, points), (colour, dashes) in zip(lines.items(), cycle(_STYLES), strict=False):
            if points:
                dots = "o" if len(points) <= 30 else None
                axis.plot(*zip(*points, strict=True), label=name, color=colour, ls=dashes, lw=1.6, marker=dots, ms=4)
        axis.set_title(title, fontsize=11)
        axis.set_xlabel("step")
        axis.grid(color="#dddddd", lw=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        if values:
            axis.legend(frameon=False, fontsize=9)
    figure.savefig(path, format="png")
    return path


def tell(history: History, advice: Advice | None) -> None:
    """Print the components, the warnings and the recommendation."""
    table = Table(
        "component", "raw: first", "last", "share of the loss", "of the gradient", "wanted", "factor", box=None
    )
    for name, one in history.loss_summary().components.items():
        pull = advice.pulls.get(name) if advice else None
        ends = [f"{value:.4g}" for value in (one.raw.first, one.raw.last)] if one.raw else ["", ""]
        share = "" if one.loss_share is None else f"{one.loss_share:.1%}"
        pulls = [f"{pull.share:.1%}", f"{pull.target:.1%}", f"{pull.factor:.3g}"] if pull else ["", "", ""]
        table.add_row(name, *ends, share, *pulls)
    stdout.print(table)
    for warning in history.warnings:
        stdout.print(f"warning at step {warning.step} ({warning.kind}): {warning.message}", markup=False)
    if not history.warnings:
        stdout.print("no warnings")
    for line in recommendation(advice):
        stdout.print(line, markup=False)


def recommendation(advice: Advice | None) -> list[str]:
    """The advice in words."""
    if advice is None:
        return [f"no recommendation: it needs gradients of at least two components in {GRADIENTS_FILE} "
                "(--gradient-steps)"]  # fmt: skip
    lines = [
        f"gradients at the {advice.place}'s output, {advice.measurements} measurements from step {advice.first_step} "
        f"to {advice.last_step}; a rule of thumb, see docs/logs.md. For the wanted shares (one of them):"
    ]
    if advice.recommended_beta is not None:
        lines.append(f"  --semantic-loss-scale {advice.recommended_beta:.3g} (it was {advice.beta:.3g})")
    elif advice.beta_factor is not None:
        lines.append(f"  --semantic-loss-scale times {advice.beta_factor:.3g}")
    if advice.loss_weights is not None:
        names, weights = " ".join(advice.pulls), " ".join(f"{weight:.3g}" for weight in advice.loss_weights)
        lines.append(f"  --loss-components {names} --loss-weights {weights}")
    else:
        factors = ", ".join(f"{name} {pull.factor:.3g}" for name, pull in advice.pulls.items())
        lines.append(f"  --loss-weights (and --end-weights) times: {factors}")
    return lines


if __name__ == "__main__":
    main()
