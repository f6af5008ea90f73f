"""Where a result comes from, as a chain: data, teacher, store, run, metrics; with hashes, seeds and versions."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from kdeval.report.evaluation import Evaluation
from kdeval.report.speed import generation
from kdeval.report.stores import Faith
from kdeval.report.trained import Facts, Trained
from kdeval.report.wording import brief_hash, cut
from kdeval.results import STATISTICS, Results
from kdstore.store.manifest import Manifest

_LONGEST = 300
_MOST = 400
_SPLIT = re.compile(r"(train|validation) \(([\d.e-]+) of the rows, by group\)")  # as a build writes it


@dataclass(frozen=True)
class Link:
    """One link of the chain: facts under one heading or several; ``missing`` says why nothing is known of it."""

    title: str
    parts: dict[str, Facts]
    missing: str = ""


def chain(
    evaluation: Evaluation,
    trained: Trained,
    stores: Faith,
    teacher: Evaluation | None,
    baseline: tuple[Evaluation, Trained] | None = None,
) -> list[Link]:
    """The five links, of which some may be missing, and the baseline's run where there is one."""
    trained_on, evaluated_on = stores.view("trained on"), stores.view("evaluated on")
    known = trained_on or evaluated_on
    manifest = known.manifest if known else None
    return [
        _data(evaluation.results, manifest),
        _teacher(evaluation.results, manifest, teacher),
        Link("Store", _stores(stores), "" if known else "no store is known"),
        Link("Run", *_run(evaluation, trained)),
        *([Link("Baseline", *_run(*baseline))] if baseline else []),
        _metrics(evaluation.results),
    ]


def _data(results: Results, manifest: Manifest | None) -> Link:
    data = results.data
    facts = {
        "evaluated on": cut(data.path, _LONGEST),
        "fingerprint": data.fingerprint,
        "rows": f"{data.rows:,}, {data.rejected:,} rejected",
        "label tokens": f"{data.tokens:,}",
        "task": cut(data.task, _LONGEST),
    }
    if manifest is not None:
        for index, segment in enumerate(manifest.head.segments[:4]):
            facts["source of the store" + (f" {index + 1}" if index else "")] = segment.source_sha256
    return Link("Data", {"": facts})


def _teacher(results: Results, manifest: Manifest | None, run: Evaluation | None) -> Link:
    facts: Facts = {}
    record = manifest.head.teacher if manifest else None
    if record is not None:
        facts = {
            "model": cut(record.name, _LONGEST),
            "weights": record.weights_sha256,
            "revision": cut(record.revision or "none", _LONGEST),
            "run in": cut(f"{record.dtype} on {record.device}", _LONGEST),
        }
    elif results.teacher is not None:
        facts = {"model": cut(results.teacher.name, _LONGEST), "weights": results.teacher.weights_sha256 or "unknown"}
    if manifest is not None and manifest.head.imported is not None:
        facts["imported from"] = cut(manifest.head.imported.format, _LONGEST)
    if run is not None:
        facts["evaluated"] = cut(run.results.model.name, _LONGEST)
        facts["weights of that"] = run.results.model.weights_sha256 or "unknown"
    return Link("Teacher", {"": facts}, "" if facts else "no teacher is known")


def _stores(stores: Faith) -> dict[str, Facts]:
    return {f"{view.name}, {view.role}": _store(view.path, view.manifest) for view in stores.stores if view.manifest}


def _store(path: str, manifest: Manifest) -> Facts:
    head = manifest.head
    facts = {
        "path": path,
        "content": manifest.content_sha256,
        "split": split_words(head.split),
        "seed": str(head.seed),
        "tokenizer": head.tokenizer.sha256,
    }
    if head.codec is not None:
        facts["codec"] = cut(head.codec.name, _LONGEST)
    if versions := head.segments[0].versions:
        facts["versions"] = _versions(versions)
    return facts


def split_words(text: str) -> str:
    """Which rows a side of a split has; other texts as they are."""
    found = _SPLIT.fullmatch(text)
    if found is None:
        return cut(text, _LONGEST)
    rows = f"all but {found[2]}" if found[1] == "train" else found[2]
    return f"{found[1]}: {rows} of the rows; rows of one group, such as one test file, stay together"


def _run(evaluation: Evaluation, trained: Trained) -> tuple[dict[str, Facts], str]:
    """What is known of a run and its model, and why nothing is."""
    model = evaluation.results.model
    facts = {"model": cut(model.name, _LONGEST)}
    if model.weights_sha256:
        facts["weights"] = model.weights_sha256
    if model.parameters:
        facts["parameters"] = f"{model.parameters:,}"
    if trained.config_sha256:
        facts["config.json"] = trained.config_sha256
    told = {
        "loss": trained.loss,
        "seed": trained.seed,
        "steps": trained.told("steps"),
        "device": trained.told("device"),
        "processes": trained.told("processes"),
        "torch": trained.told("torch"),
    }
    facts |= {name: value for name, value in told.items() if value is not None}
    unknown = "" if trained.config or trained.run else f"no training run left anything in {evaluation.name}"
    return {"": facts}, unknown


def _metrics(results: Results) -> Link:
    settings = results.settings
    facts = {
        "predictions": results.predictions_sha256,
        STATISTICS: results.statistics_sha256,
        "seed": str(settings.seed),
        "resamples": f"{settings.draws:,}",
        **({"generation": generation(results)} if results.speed else {}),
        "took": f"{results.seconds:,.1f} s",
        "versions": _versions(results.versions),
    }
    return Link("Metrics", {"": facts})


def _versions(versions: dict[str, str]) -> str:
    return cut(", ".join(f"{name} {number}" for name, number in versions.items()), _LONGEST)


def settings_of(evaluation: Evaluation) -> Facts:
    """Every setting of the evaluation, and how each metric was computed."""
    results = evaluation.results
    settings = {f"settings.{name}": str(value) for name, value in results.settings}
    model = {f"model.{name}": str(value) for name, value in results.model}
    metrics = {
        f"metrics.{name}": f"{metric.aggregation}; {metric.implementation}"
        for name, metric in results.metrics.items()
    }
    found = list({**settings, **model, **metrics}.items())[:_MOST]
    return {cut(name, _LONGEST): cut(value, _LONGEST) for name, value in found}


def origin_words(evaluation: Evaluation, trained: Trained) -> str:
    """The chain in one sentence."""
    results = evaluation.results
    weights = f" with the weights {brief_hash(results.model.weights_sha256)}" if results.model.weights_sha256 else ""
    training = f", trained with seed {cut(trained.seed, 40)}," if trained.seed is not None else ""
    kind = {"store": "content", "jsonl": "file", "predictions": "file"}[results.data.kind]
    return (
        f"The {evaluation.subject}{weights}{training} was evaluated on {results.data.rows:,} rows of "
        f"{cut(results.data.path, _LONGEST)} ({kind} {brief_hash(results.data.fingerprint)}), with seed "
        f"{results.settings.seed}."
    )


def models_words(models: Sequence[tuple[str, Evaluation, Trained]]) -> str:
    """What each model is, by its role: its name, its size, and what its run says of the loss and the seed."""
    return " ".join(_model_words(role, evaluation, trained) for role, evaluation, trained in models)


def _model_words(role: str, evaluation: Evaluation, trained: Trained) -> str:
    parameters = evaluation.results.model.parameters
    size = f", {parameters:,} parameters" if parameters else ""
    facts = {"loss": trained.loss, "seed": trained.seed}
    told = " and ".join(f"{name} {cut(value, 80)}" for name, value in facts.items() if value is not None)
    training = f"was trained with {told}" if told else "left no settings of a training"
    return f"The {role} ({cut(evaluation.name, 80)}{size}) {training}."
