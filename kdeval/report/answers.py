"""What a report says in sentences that can be quoted: no difference is one where its interval spans 0."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from kdeval.report.confusion import Confusion
from kdeval.report.curves import Curve, Curves
from kdeval.report.evaluation import Evaluation
from kdeval.report.groups import Breakdown, GroupLine
from kdeval.report.rivals import Rival
from kdeval.report.table import MetricRow, RivalCells
from kdeval.report.wording import cut, percent, plural, sentence, with_interval
from kdeval.results import Value

HEADLINES: Final = (
    "code_quality", "semantic_similarity", "knowledge_retention", "exact_match", "f1", "ast_validity", "loss",
)  # fmt: skip
_TILES: Final = 7
_NAMED: Final = 4  # of the methods that are never written
_WORDS: Final = {"better": "better than", "worse": "worse than"}


@dataclass(frozen=True)
class Answer:
    """One question of the report, the section that has more, and what can be said in short."""

    question: str
    anchor: str
    sentences: list[str]


def headlines(rows: list[MetricRow]) -> list[MetricRow]:
    """The metrics that come first; of other tasks the first ones."""
    whole = {row.name: row for row in rows if not row.part}
    return [whole[name] for name in HEADLINES if name in whole] or list(whole.values())[:_TILES]


def how_good(
    student: Evaluation, first: list[MetricRow], teacher: Rival, baseline: Rival, models: str = ""
) -> Iterator[str]:
    """Values, thresholds, and what can be said against teacher and baseline; ``models`` says what the latter is."""
    who = student.subject
    for row in first[:2]:
        yield _value(student, row)
    for row in first[:1]:
        for held, whom in ((row.teacher, "its teacher"), (row.baseline, "the baseline")):
            if held is not None:
                yield from _against(row.title, held, f"{who} is", whom, student.results.settings.level)
    if student.results.teacher or teacher.held:
        yield from _tally(student, teacher)
    if models:
        yield models
    if baseline.pair is not None:
        yield sentence(baseline.pair.summary())


def _value(student: Evaluation, row: MetricRow) -> str:
    results = student.results
    value = results.metrics[row.name]
    if value.value is None:
        return f"{row.title}: undefined for these {results.data.rows:,} rows."
    shown = with_interval(value, row.unit, results.settings.level, row.unit_shown)
    good = f"; it {row.threshold}" if row.threshold else ""
    return f"{row.title} of the {student.subject}: {shown} on {results.data.rows:,} rows{good}."


def _against(title: str, held: RivalCells, who_is: str, whom: str, level: float) -> Iterator[str]:
    """One metric, student minus the other."""
    gap = f"{held.gap.text} ({percent(level)} interval {held.gap.interval})" if held.gap.interval else held.gap.text
    if held.verdict in _WORDS:
        yield (
            f"By its {title} the {who_is} {_WORDS[held.verdict]} {whom}, which has {held.value.text}: "
            f"difference {gap}."
        )
    elif held.verdict == "no difference found":
        yield (f"By its {title} no difference from {whom}, which has {held.value.text}, was found: difference {gap}.")


def _tally(student: Evaluation, teacher: Rival) -> Iterator[str]:
    """In how many metrics the student is better or worse than its teacher."""
    held = {name: one for name, one in teacher.held.items() if name in student.results.metrics}
    found = Counter(one.verdict for one in held.values())
    tried = found["better"] + found["worse"] + found["no difference found"]
    if not tried:
        return
    by_chance = tried * (1 - student.results.settings.level)
    yield (
        f"Of {plural(tried, 'metric')} that both have, the {student.subject} is worse than its teacher in "
        f"{found['worse'] or 'none'} and better in {found['better'] or 'none'}; in {found['no difference found']} no "
        f"difference was found. About {by_chance:.1f} would seem to differ by chance alone."
    )


def what_is_wrong(
    student: Evaluation, table: Confusion | None, breakdowns: list[Breakdown], has_texts: bool
) -> Iterator[str]:
    """How often it is exact, what it takes for what, and which groups stand out."""
    results = student.results
    if not has_texts:
        yield "It predicts no texts: there are no samples and no kinds of mistakes to show. The table has all values."
        return
    exact = results.metrics.get("exact_match")
    if exact is not None and exact.value is not None:
        share = with_interval(exact, exact.unit, results.settings.level)
        yield f"The {student.subject} writes {share} of the references exactly."
    valid = results.metrics.get("ast_validity")
    if valid is not None and valid.value is not None:
        share = with_interval(valid, valid.unit, results.settings.level)
        longer = results.metrics.get("length_ratio")
        length = (
            ""
            if longer is None or longer.value is None
            else f", with {longer.value:.2f} times the references' tokens"
        )
        yield f"Of what it writes {share} parses as Java{length}."
    if table is not None:
        often = f"{table.missed:,} of {table.rows:,} rows ({table.missed / table.rows:.1%})"
        if table.worst is None:
            yield "In every row it calls the assertion method that was expected."
        else:
            expected, predicted, count = table.worst
            yield (
                f"In {often} it calls another assertion method than the expected one, or none; most often "
                f"{predicted} where {expected} was expected ({plural(count, 'row')})."
            )
        yield from _methods(table)
    for breakdown in breakdowns:
        yield from _outliers(breakdown, results.settings.level)


def _methods(table: Confusion) -> Iterator[str]:
    """Whether it writes one method whatever is expected."""
    found = table.methods
    if not found.expected:
        return
    count = f"It ever writes {found.written or 'none'} of the {plural(found.expected, 'expected assertion method')}"
    if found.favourite is None:
        yield f"{count}."
        return
    name, written, due = found.favourite
    shown = ", ".join(found.never[:_NAMED]) + (", ..." if len(found.never) > _NAMED else "")
    expect = "1 row expects" if found.never_rows == 1 else f"{found.never_rows:,} rows expect"
    never = f", and never {shown} ({expect} {'these' if len(found.never) > 1 else 'it'})" if found.never else ""
    yield (
        f"{count}: {name} in {written:,} of {plural(table.rows, 'row')}, where {due:,} expect it (always writing it "
        f"would be right in {due / table.rows:.1%}){never}."
    )


def _outliers(breakdown: Breakdown, level: float) -> Iterator[str]:
    """The lowest and the highest group, where their intervals are apart."""
    measure = next((each for each in breakdown.measures if each.name == "f1"), breakdown.measures[0])
    known = [(line, value) for line, value in breakdown.values(measure.name) if value.value is not None]
    if len(known) < 2 or not all(value.interval for _, value in known):
        return
    low, *_, high = sorted(known, key=_point)
    groups = f"Of {len(known)} groups by {breakdown.heading.lower()}"
    if low[1].interval and high[1].interval and low[1].interval.high >= high[1].interval.low:
        yield f"{groups} none stands out by {measure.title}: the intervals of the lowest and the highest meet."
        return
    yield (
        f"{groups}, {measure.title} is lowest for {_group(low, measure.unit, level)}, and highest for "
        f"{_group(high, measure.unit, level)}."
    )


def _point(pair: tuple[GroupLine, Value]) -> float:
    return pair[1].value or 0.0


def _group(pair: tuple[GroupLine, Value], unit: str, level: float) -> str:
    line, value = pair
    return f"{cut(line.name, 60)} with {with_interval(value, unit, level)} on {plural(line.rows, 'row')}"


def course(curves: Curves) -> str:
    """How the loss went; where its weights or its temperature change, how a component went that keeps its meaning."""
    total = curves.losses[0]
    if curves.total_is_comparable:
        return f"The {_went(total)}."
    why = f"The {curves.what_changes} in the total loss changed over time, so that its values cannot be compared."
    label = curves.label_loss
    return why if label is None else f"{why} The {_went(label)}."


def _went(curve: Curve) -> str:
    label, start, end = curve.ends
    change = f" ({(end - start) / start:+.0%})" if start else ""
    name = curve.name if curve.name == "loss" else cut(curve.name, 60)
    return f"{label} {name} went from {start:.3f} to {end:.3f}{change} in {curve.steps:,g} steps"


def reading_curves(curves: Curves, most_rows: str | None) -> list[str]:
    """What one has to know to read the curves."""
    notes = []
    if curves.divergences:
        names = ", ".join(f"{cut(name, 40)}_loss" for name in curves.divergences)
        notes.append(
            f"The factor T^2 of the loss of training (T: temperature) is in {names}, but in no metric above."
        )
    if any(curve.val for curve in curves.losses):
        some = f", here at most {most_rows}" if most_rows else ""
        notes.append(f"Validation curves are of the rows that training validates on{some}.")
    return notes
