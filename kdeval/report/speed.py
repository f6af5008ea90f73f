"""How large and how fast the model is, beside its teacher where that was evaluated in the same way."""

from collections.abc import Iterator
from dataclasses import dataclass

from kdeval.report.evaluation import Evaluation
from kdeval.report.wording import cut, sentence
from kdeval.results import Results, Speed

_LONGEST = 60


@dataclass(frozen=True)
class SpeedLine:
    """One figure of both, and their ratio where it may be taken."""

    name: str
    student: str
    teacher: str
    ratio: str = ""


@dataclass(frozen=True)
class SizeAndSpeed:
    """The figures, and what they come to in words."""

    lines: list[SpeedLine]
    words: list[str]


def size_and_speed(student: Evaluation, teacher: Evaluation | None) -> SizeAndSpeed:
    """Figures of both models; ratios only where nothing but the model differs."""
    ours, theirs = student.results, teacher.results if teacher else None
    differences = list(_differences(ours, theirs)) if theirs else []
    lines = [
        _line("parameters", ours.model.parameters, theirs.model.parameters if theirs else None, "fewer"),
        _line("bytes of the weights", ours.model.bytes, theirs.model.bytes if theirs else None, "fewer"),
        _rate("rows per second", ours, theirs, "rows", not differences),
        _rate("model tokens per second", ours, theirs, "tokens", not differences),
    ]
    conditions = [_conditions(ours), _conditions(theirs) if theirs else {}]
    lines += [SpeedLine(sentence(name), value, conditions[1].get(name, "")) for name, value in conditions[0].items()]
    lines = [line for line in lines if line.student or line.teacher]
    return SizeAndSpeed(lines, list(_words(student, teacher, differences)))


def _words(student: Evaluation, teacher: Evaluation | None, differences: list[str]) -> Iterator[str]:
    ours = student.results
    parameters = ours.model.parameters
    if ours.speed is None:
        yield "No model was run, as the predictions were there already: there is no speed."
    if teacher is None:
        if student.subject == "student":
            yield (
                "Nothing is known of the size and speed of the teacher. To compare, run `kdeval run TEACHER_DIR "
                f"--data {ours.data.path} --into DIR` with the same settings, then `kdeval report` with "
                "`--teacher-run DIR`."
            )
        return
    theirs = teacher.results
    if parameters and theirs.model.parameters:
        yield (
            f"The {student.subject} has {parameters:,} parameters, {_times(theirs.model.parameters / parameters)} of "
            f"its teacher's {theirs.model.parameters:,}."
        )
    if differences:
        yield f"Their speeds are not compared, as {', '.join(differences)}."
        return
    rows = _per_second(ours.speed, "rows"), _per_second(theirs.speed, "rows")
    tokens = _per_second(ours.speed, "tokens"), _per_second(theirs.speed, "tokens")
    if rows[0] and rows[1] and tokens[0] and tokens[1]:
        faster, more = rows[0] / rows[1], tokens[0] / tokens[1]
        yield (
            f"It finishes {rows[0]:,.1f} rows per second where its teacher finishes {rows[1]:,.1f}: {faster:.2f} "
            f"times as many. In tokens of the model's tokenizer it is {tokens[0]:,.1f} to {tokens[1]:,.1f}, "
            f"{more:.2f} times as many, as its texts have {more / faster:.2f} times as many of these. Each was timed "
            "once: another load of the machine may move this."
        )


def _times(ratio: float) -> str:
    return f"1/{ratio:.1f}" if ratio >= 1 else f"{1 / ratio:.1f} times"


def _differences(ours: Results, theirs: Results) -> Iterator[str]:
    """Why speeds must not be compared, in words."""
    if ours.speed is None or theirs.speed is None:
        yield "one of the two was not run"
        return
    pairs = {
        "device": (ours.speed.device, theirs.speed.device),
        "batch size": (ours.settings.batch_size, theirs.settings.batch_size),
        "number of beams": (ours.settings.num_beams, theirs.settings.num_beams),
        "sampling": (ours.settings.sample, theirs.settings.sample),
        "number of threads": (ours.speed.threads, theirs.speed.threads),
        "longest output": (ours.settings.max_output_tokens, theirs.settings.max_output_tokens),
        "longest prompt": (ours.settings.max_input_tokens, theirs.settings.max_input_tokens),
        "set of rows": (ours.data.fingerprint[:12], theirs.data.fingerprint[:12]),
        "number of rows": (ours.speed.rows, theirs.speed.rows),
        "version of torch": (ours.versions.get("torch", ""), theirs.versions.get("torch", "")),
    }
    for name, (mine, other) in pairs.items():
        if mine != other:
            yield f"the {name} differs ({cut(str(mine), _LONGEST)} and {cut(str(other), _LONGEST)})"


def _conditions(results: Results) -> dict[str, str]:
    """Under which the speed was measured; nothing without one."""
    speed, settings = results.speed, results.settings
    if speed is None:
        return {}
    return {
        "rows": f"{speed.rows:,}",
        "seconds of writing": f"{speed.seconds:,.1f}",
        "device": cut(speed.device, _LONGEST),
        "threads": f"{speed.threads:,}",
        "rows per batch": f"{settings.batch_size:,}",
        "generation": generation(results),
    }


def generation(results: Results) -> str:
    """How texts are written."""
    settings = results.settings
    if settings.sample:
        return f"sampling at {settings.sampling_temperature:g}, top p {settings.top_p:g}"
    return "greedy" if settings.num_beams == 1 else f"{settings.num_beams} beams"


def _line(name: str, ours: int | None, theirs: int | None, word: str) -> SpeedLine:
    ratio = ""
    if ours and theirs:
        ratio = f"{theirs / ours:.1f} times {word}" if theirs >= ours else f"{ours / theirs:.1f} times more"
    return SpeedLine(sentence(name), f"{ours:,}" if ours else "", f"{theirs:,}" if theirs else "", ratio)


def _rate(name: str, ours: Results, theirs: Results | None, what: str, comparable: bool) -> SpeedLine:
    mine = _per_second(ours.speed, what)
    other = _per_second(theirs.speed, what) if theirs else None
    ratio = f"{mine / other:.2f} times as many" if mine and other and comparable else ""
    return SpeedLine(sentence(name), f"{mine:,.1f}" if mine else "", f"{other:,.1f}" if other else "", ratio)


def _per_second(speed: Speed | None, what: str) -> float | None:
    """None where nothing was written, or in no time that a clock sees."""
    if speed is None or not speed.seconds:
        return None
    found: int = getattr(speed, what)
    return found / speed.seconds
