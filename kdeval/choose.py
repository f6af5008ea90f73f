"""Which metrics an evaluation computes: those that were asked for, and what these are made of."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from kdeval.metrics import METRICS, TEACHER, Composite, Context, Inputs, Metric
from kdeval.samples import Group
from kdstore.errors import CapabilityError, ModelError

_LACKS: Mapping[Inputs, str] = {
    "text": "texts",
    "tokens": "a pass over the references",
    "teacher_text": "predictions of a teacher",
    "teacher_signal": "a teacher's signal",
    "labels": "probabilities of labels",
    "ranking": "ranked candidates",
}
Refusal = CapabilityError | ModelError


@dataclass(frozen=True)
class Chosen:
    """Metrics in the order in which they were asked for, then those that these are made of.

    ``left_out`` says why a metric is not among them; ``broken`` are those of them that cannot be measured on this
    machine, whatever the data.
    """

    metrics: list[Metric] = field(default_factory=list)
    left_out: dict[str, Refusal] = field(default_factory=dict)
    broken: dict[str, Refusal] = field(default_factory=dict)

    @property
    def names(self) -> set[str]:
        """The metrics' names."""
        return {metric.name for metric in self.metrics}

    def reasons(self) -> dict[str, list[str]]:
        """Metrics that are left out, by the reason."""
        found: dict[str, list[str]] = {}
        for name, refusal in self.left_out.items():
            found.setdefault(str(refusal), []).append(name)
        return found


def choose(
    names: Sequence[str],
    context: Context,
    groups: Collection[Group],
    teacher: Chosen | None = None,
    strict: bool = False,
) -> Chosen:
    """The metrics of these names, and all that they are made of.

    Parameters
    ----------
    groups
        What the samples have.
    teacher
        What is computed of the teacher's predictions on the same samples; its instances are used again.
    strict
        Refuse what cannot be computed, rather than leave it out.

    Raises
    ------
    UnknownNameError
        There is no metric of a name.
    CapabilityError, ModelError
        With ``strict``: a metric cannot be computed here.
    """
    order = closure(names)
    known = teacher or Chosen()
    chosen = Chosen(broken=dict(known.broken))
    made = {metric.name: metric for metric in known.metrics}
    for name in sorted(order, key=_depth):
        refusal = _refusal(name, groups, chosen, known)
        if refusal is None and name not in made:
            metric = METRICS.get(name).create(context)
            try:
                metric.prepare()
                made[name] = metric
            except (CapabilityError, ModelError) as error:
                refusal = chosen.broken[name] = error
        if refusal is None:
            chosen.metrics.append(made[name])
        elif strict:
            raise type(refusal)(f"{refusal} Or leave {name} out of --metrics.") from None
        else:
            chosen.left_out[name] = refusal
    chosen.metrics.sort(key=lambda metric: order.index(metric.name))
    return chosen


def closure(names: Sequence[str]) -> list[str]:
    """These names, each once, and then those of all that composite metrics among them are made of.

    Raises
    ------
    UnknownNameError
        There is no metric of a name.
    """
    found = list(dict.fromkeys(names))
    for name in found:  # which grows meanwhile
        cls = METRICS.get(name)
        if issubclass(cls, Composite):
            components = (component.removeprefix(TEACHER) for component in cls.components)
            found += [component for component in dict.fromkeys(components) if component not in found]
    return found


def _depth(name: str) -> int:
    """More than that of all that a metric is made of."""
    cls = METRICS.get(name)
    if not issubclass(cls, Composite):
        return 0
    return 1 + max(_depth(component.removeprefix(TEACHER)) for component in cls.components)


def _refusal(name: str, groups: Collection[Group], chosen: Chosen, teacher: Chosen) -> Refusal | None:
    """Why a metric cannot be computed, as far as that is known before it is made."""
    cls = METRICS.get(name)
    if name in chosen.broken:
        return chosen.broken[name]
    if not issubclass(cls, Composite):
        return None if cls.inputs in groups else CapabilityError(f"Expected {_LACKS[cls.inputs]}. Got data without.")
    for component in cls.components:
        side = teacher if component.startswith(TEACHER) else chosen
        missing = component.removeprefix(TEACHER)
        if missing not in side.names:
            unknown = CapabilityError(f"Expected {_LACKS['teacher_text']}. Got data without.")
            return side.left_out.get(missing, unknown)
    return None
