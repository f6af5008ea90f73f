"""Write docs/metrics.md from the metrics themselves."""

import inspect
import re
from pathlib import Path

import click
import marked

from kdeval.metrics import METRICS, Composite, Measured, Metric
from kdstore.tasks import TASKS

PAGE = Path(__file__).resolve().parents[2] / "docs/metrics.md"
COMMAND = "python tools/docs/metrics.py"

_TOP = f"""# Metrics

Generated from the metrics themselves by `{COMMAND}`; do not edit.

Each metric is a file in `kdeval/metrics/`, found by its name; `kdeval run --metrics a,b` chooses some. What a metric
looks at decides when it can be computed:

* **text**: prediction and reference;
* **tokens**: a pass of the model over the reference, every label token predicted from the true ones before it;
* **teacher_text**: the teacher's own prediction, from the store;
* **teacher_signal**: the teacher's distribution at each label token, from the store;
* **labels**, **ranking**: of classification and retrieval, see `kdeval score --help`;
* **metrics**: a formula over other metrics.

Every value has an interval from {{draws}} bootstrap resamples of the samples (percentile method, seeded): where the
value of as many other samples of the same kind would lie in {{level}} % of cases. It says nothing of another seed of
training. The same resamples are used for all metrics and both models, so that the interval of a difference is that of
the paired difference. A value that is undefined for a set (a mean over nothing) is null in JSON, empty in tables, and
left out of resamples. On few samples read intervals with care: those of shares that are all 0 or all 1 have no width;
CodeBLEU jumps with the few samples that have any data flow; the calibration error of resamples is larger than that of
the set.

*Good from* is the threshold that the predecessor of this project named. ↑: higher is better, ↓: lower is, 1: nearer
to 1 is.
"""


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; exit code 1 when the page is not up to date.")
def main(check: bool) -> None:
    """Write docs/metrics.md from the metrics of kdeval.

    \b
    Example:
        python tools/docs/metrics.py
        python tools/docs/metrics.py --check
    """
    marked.settle(PAGE, page(), COMMAND, check=check)
    if not check:
        click.echo(f"{PAGE.name}: {len(METRICS.names())} metrics")


def page() -> str:
    """The text of docs/metrics.md."""
    from kdeval.interval import DRAWS, LEVEL

    first = [name for name in TASKS.get("java_assertion").metrics if name in METRICS.names()]
    names = [*first, *(name for name in METRICS.names() if name not in first)]
    rows = [_row(METRICS.get(name)) for name in names]
    table = marked.table(["metric", "name", "range", "", "good from", "looks at"], rows)
    parts = [_TOP.format(draws=f"{DRAWS:,}", level=f"{100 * LEVEL:g}"), f"{table}\n"]
    return "\n".join([*parts, *(_section(METRICS.get(name)) for name in names)])


def _row(metric: type[Metric]) -> list[str]:
    good = "" if metric.good_at is None else f"{metric.good_at:g}"
    arrow = {"higher": "↑", "lower": "↓", "one": "1"}[metric.direction]
    link = f"[{metric.title}](#{_anchor(metric.title)})"
    return [link, f"`{metric.name}`", _range(metric), arrow, good, metric.inputs]


def _range(metric: type[Metric]) -> str:
    low, high = metric.range
    return f"{low:g} to {high:g}" if high is not None else f"from {low:g}"


def _anchor(title: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def _section(metric: type[Metric]) -> str:
    facts = [f"`{metric.name}`", f"unit: {metric.unit}", f"range: {_range(metric)}", metric.aggregation]
    if isinstance(metric.parts, tuple) and metric.parts:
        facts.append(f"parts: {', '.join(f'`{part}`' for part in metric.parts)}")
    if issubclass(metric, Composite):
        facts.append(f"made of: {', '.join(f'`{name}`' for name in metric.components)}")
    elif issubclass(metric, Measured):
        facts.append(f"looks at: {metric.inputs}")
    return f"## {metric.title}\n\n{'; '.join(facts)}.\n\n{_markdown(inspect.getdoc(metric) or '')}\n"


def _markdown(text: str) -> str:
    """A docstring's reStructuredText as Markdown, as far as these docstrings use it."""
    text = re.sub(r":math:`([^`]+)`", r"$\1$", text)
    text = re.sub(r"``([^`]+)``", r"`\1`", text)
    text = re.sub(r"^\.\. math::\s*((?:.+\n?)(?:[ ]{2,}.+\n?)*)", _formula, text, flags=re.MULTILINE)
    return re.sub(r"((?:^>>> .*\n?(?:^(?!>>>|\s*$).*\n?)*)+)", _example, text, flags=re.MULTILINE).rstrip()


def _formula(found: re.Match[str]) -> str:
    return f"$$\n{' '.join(found[1].split())}\n$$\n"


def _example(found: re.Match[str]) -> str:
    return f"```python\n{found[1].rstrip()}\n```\n"


if __name__ == "__main__":
    main()
