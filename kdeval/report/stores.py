"""Were the stores faithful to their teacher? What their manifests say, in a sentence each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kdeval.report.curves import Curves
from kdeval.report.evaluation import Evaluation
from kdeval.report.kept import Kept, kept, settings_label
from kdeval.report.trained import REPORT, Trained
from kdeval.report.wording import cut
from kdstore.errors import KDError
from kdstore.store.manifest import Fidelity, Manifest, read_manifest
from kdtrain.gate import measured, worst_between

Role = Literal["trained on", "evaluated on"]
_MOST = 8  # stores
_LONGEST = 200
_DIGITS = 16  # of a fingerprint, at least


@dataclass(frozen=True)
class Use:
    """For what a store was used: divergences, the least and the greatest temperature, and the limit of angles."""

    divergences: Sequence[str]
    temperatures: tuple[float, float]
    limit: float
    accepted: bool


@dataclass(frozen=True)
class StoreView:
    """One store: what it holds, and whether it was faithful. ``kept`` is None where another store has the same."""

    name: str
    path: str
    role: Role
    words: str
    facts: dict[str, str]
    kept: Kept | None
    manifest: Manifest | None
    use: Use | None = None


@dataclass(frozen=True)
class Faith:
    """The stores, those of training first; ``words`` answer for all of them."""

    stores: list[StoreView]
    words: list[str]

    def view(self, role: Role) -> StoreView | None:
        """The first store with this role that is there."""
        return next((store for store in self.stores if store.role == role and store.manifest), None)


def faith(evaluation: Evaluation, trained: Trained, curves: Curves | None) -> Faith:
    """Every store that the run names."""
    views: list[StoreView] = []
    for path, fingerprint in list(trained.stores("train_stores").items())[:_MOST]:
        views.append(_view(path, fingerprint, "trained on", evaluation, _training_use(trained, curves), views))
    data, settings = evaluation.results.data, evaluation.results.settings
    if data.kind == "store":
        use = Use(["kl"], (settings.temperature, settings.temperature), trained.max_angle, False)
        views.append(_view(data.path, data.fingerprint, "evaluated on", evaluation, use, views))
    return Faith(views, list(_answers(evaluation, views)))


def _answers(evaluation: Evaluation, views: Sequence[StoreView]) -> Iterator[str]:
    """What can be said: of the stores of training, or where that is nothing, of the one that was evaluated on."""
    training = [view for view in views if view.role == "trained on"]
    missing = f"{evaluation.name} holds no {REPORT} that names the stores of its training"
    if not views:
        kind = {"jsonl": "raw rows", "predictions": "a file of predictions"}[evaluation.results.data.kind]
        yield f"It cannot be said: {missing}, and it was evaluated on {kind}, which hold no signal."
    elif not training:
        yield f"Of the store of training it cannot be said: {missing}."
    yield from (f"{view.name} ({view.role}): {view.words}" for view in training)
    if not any(view.manifest for view in training):
        yield from (f"{view.name} ({view.role}): {view.words}" for view in views if view not in training)


def _training_use(trained: Trained, curves: Curves | None) -> Use | None:
    """None where the steps of training are not known."""
    if curves is None or curves.temperatures is None:
        return None
    return Use(curves.divergences, curves.temperatures, trained.max_angle, trained.accepted)


def _view(
    path: str, fingerprint: str, role: Role, evaluation: Evaluation, use: Use | None, before: Sequence[StoreView]
) -> StoreView:
    manifest, problem = _manifest(path, fingerprint, evaluation)
    name = cut(Path(path).name or path, _LONGEST)
    if manifest is None:
        words = f"it cannot be said whether it was faithful. {problem}"
        return StoreView(name, cut(path, _LONGEST), role, words, {}, None, None)
    codec = manifest.head.codec
    first = next((view for view in before if codec and view.manifest and view.manifest.head.codec == codec), None)
    if use is None:
        words = "how it was used is not known, as the run holds no steps of training."
    elif first and first.kept and first.use and first.use.divergences:
        words = f"its fidelity was measured once for both stores: what is said of {first.name} is of this one too."
    else:
        words = _words(manifest, use)
    table = None if first else kept(codec)
    return StoreView(name, cut(path, _LONGEST), role, words, _facts(manifest), table, manifest, use)


def _manifest(path: str, fingerprint: str, evaluation: Evaluation) -> tuple[Manifest | None, str]:
    """The manifest of the store that is meant, or why it cannot be shown.

    A relative path was one from where training was started, and the run directory may lie somewhere below it. A store
    that was moved may lie beside the run or the data. Its fingerprint says whether it is the one.
    """
    given, above = Path(path), evaluation.path.resolve().parents
    beside = [*above[:2], Path(evaluation.results.data.path).parent]
    places = [given, *(parent / given for parent in above), *(parent / given.name for parent in beside)]
    problems = []
    for place in [place for place in dict.fromkeys(places) if _is_there(place)] or [given]:
        try:
            manifest = read_manifest(place)
        except (KDError, OSError, ValueError) as error:
            problems.append(cut(str(error), 2 * _LONGEST))
            continue
        if len(fingerprint) >= _DIGITS and manifest.content_sha256.startswith(fingerprint):
            return manifest, ""
        problems.append(f"The store at {cut(str(place), _LONGEST)} has another content: it was built again since.")
    return None, problems[0]


def _is_there(place: Path) -> bool:
    try:
        return place.is_dir()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _words(manifest: Manifest, use: Use) -> str:
    if manifest.head.codec is None:
        return "it keeps no signal of a teacher, only tokens."
    if not use.divergences:
        return "no component of the loss compares with the teacher, so that its fidelity did not matter."
    lowest, highest = use.temperatures
    found: list[Fidelity] = []
    for divergence in use.divergences:
        records = measured(manifest.head.codec, divergence)
        worst = worst_between(records, lowest, highest)
        if worst is None:
            return (
                f"nobody measured how true its signal is for {divergence!r}, as of stores of very few rows and of "
                "imported candidates, so that it cannot be said whether it was faithful."
            )
        if not records[0].temperature <= lowest <= highest <= records[-1].temperature:
            return (
                f"its signal was measured at T = {records[0].temperature:g} to {records[-1].temperature:g} and used "
                f"at T = {_span(lowest, highest)}, so that it cannot be said whether it was faithful."
            )
        found.append(worst)
    worst = max(found, key=lambda record: record.angle_deg)
    return f"{_measured(worst, use)}, at {_size(manifest)}: {_judged(worst, use)}."


def _measured(worst: Fidelity, use: Use) -> str:
    lowest, highest = use.temperatures
    loss = "" if [worst.divergence] == ["kl"] == list(use.divergences) else f" of {cut(worst.divergence, 40)!r}"
    angle = f"{worst.angle_deg:.3g} degrees"
    if lowest < highest or worst.temperature != lowest:
        angle = f"at worst {angle} (measured at T = {worst.temperature:g})"
    return f"at T = {_span(lowest, highest)} the stored signal's gradient{loss} is {angle} from the full teacher's"


def _judged(worst: Fidelity, use: Use) -> str:
    limit = f"the {use.limit:g}-degree limit that training applies"
    if worst.angle_deg <= use.limit:
        return f"faithful by {limit}"
    return f"not faithful by {limit}" + (", which was accepted by --accept-infidelity" if use.accepted else "")


def _size(manifest: Manifest) -> str:
    size = manifest.signal_bytes_per_token
    times = f" (1/{2 * manifest.head.vocab_size / size:,.0f} of float16 logits)" if size else ""
    return f"{size:,.1f} bytes per label token{times}"


def _span(lowest: float, highest: float) -> str:
    return f"{lowest:g}" if lowest == highest else f"{lowest:.3g} to {highest:.3g}"


def _facts(manifest: Manifest) -> dict[str, str]:
    head = manifest.head
    facts = {
        "rows": f"{manifest.rows:,}",
        "label tokens": f"{manifest.label_tokens:,}",
        "bytes of all parts": f"{sum(part.bytes for part in manifest.parts):,}",
        "vocabulary": f"{head.vocab_size:,} ids",
    }
    if head.codec is not None:
        facts["codec"] = settings_label(head.codec.name, head.codec.config)
        facts["signal"] = _size(manifest)
    if head.encoders:
        encoders = ", ".join(f"{column} ({model})" for column, model in head.encoders.items())
        facts["embeddings"] = cut(encoders, _LONGEST)
    return facts
