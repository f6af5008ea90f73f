"""The metrics of multi-label classification against scikit-learn, on a classifier's scores, and by hand."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import make_multilabel_classification
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    hamming_loss,
    precision_score,
    recall_score,
)
from sklearn.multiclass import OneVsRestClassifier

from kdeval.interval import bootstrap, interval, resamples
from kdeval.metrics import METRICS, Context, Measured
from kdeval.metrics.average_precision import AveragePrecision
from kdeval.metrics.hamming import Hamming
from kdeval.metrics.label_f1 import LabelF1
from kdeval.metrics.macro_f1 import MacroF1
from kdeval.metrics.micro_f1 import MicroF1
from kdeval.metrics.subset_accuracy import SubsetAccuracy
from kdeval.samples import LabelScores, Sample
from kdstore.errors import InputError, UsageError

GOEMOTIONS = Path(__file__).parents[3] / "shared" / "data" / "emotions" / "goemotions"
NAMES = ["micro_f1", "macro_f1", "label_f1", "average_precision", "hamming", "subset_accuracy"]


class Scored(NamedTuple):
    """A classifier's probabilities and the truth, [N, L] each, and a threshold for each label."""

    labels: list[str]
    scores: NDArray[np.float64]
    gold: NDArray[np.int_]
    thresholds: dict[str, float]

    @property
    def predicted(self) -> NDArray[np.int_]:
        return (self.scores >= [self.thresholds.get(label, 0.5) for label in self.labels]).astype(int)

    def samples(self) -> list[Sample]:
        return [
            row(
                str(index),
                dict(zip(self.labels, scores, strict=True)),
                [self.labels[i] for i in np.flatnonzero(gold)],
            )
            for index, (scores, gold) in enumerate(zip(self.scores.tolist(), self.gold, strict=True))
        ]

    def metric(self, name: str) -> Measured:
        metric = METRICS.get(name).create(Context(labels=tuple(self.labels), thresholds=self.thresholds))
        assert isinstance(metric, Measured)
        return metric


def row(name: str, scores: Mapping[str, float], gold: Sequence[str]) -> Sample:
    return Sample(name, labels=LabelScores(dict(scores), list(gold)))


def fitted() -> OneVsRestClassifier:
    return OneVsRestClassifier(LogisticRegression(C=10, solver="liblinear", random_state=0))


@cache
def generated() -> Scored:
    """Rows of scikit-learn's generator, the second half scored by a model of the first."""
    x, gold = make_multilabel_classification(n_samples=800, n_features=12, n_classes=7, n_labels=2, random_state=3)
    scores = fitted().fit(x[:400], gold[:400]).predict_proba(x[400:])
    labels = [f"topic {index}" for index in range(7)]
    return Scored(labels, scores, gold[400:], {"topic 1": 0.3, "topic 4": 0.0, "topic 6": 0.8})


@cache
def emotions() -> Scored:
    """GoEmotions' dev rows, scored by a bag-of-words model of some train rows."""
    if not GOEMOTIONS.exists():
        pytest.skip("needs ../shared/data/emotions")
    labels = (GOEMOTIONS / "labels.txt").read_text(encoding="utf-8").split()

    def read(name: str, limit: int) -> tuple[list[str], NDArray[np.int_]]:
        lines = (GOEMOTIONS / name).read_text(encoding="utf-8").splitlines()[:limit]
        texts, marks = zip(*(line.split("\t")[:2] for line in lines), strict=True)
        gold = np.zeros((len(lines), len(labels)), int)
        for index, mark in enumerate(marks):
            gold[index, [int(number) for number in mark.split(",")]] = 1
        return list(texts), gold

    train, train_gold = read("train.tsv", 8000)
    dev, dev_gold = read("dev.tsv", 5426)
    words = TfidfVectorizer(min_df=2, max_features=5000, sublinear_tf=True)
    scores = fitted().fit(words.fit_transform(train), train_gold).predict_proba(words.transform(dev))
    # The model knows rare emotions badly: without lower thresholds most would never be predicted.
    return Scored(labels, scores, dev_gold, dict.fromkeys(labels[:-1], 0.15))


@pytest.fixture(params=[generated, emotions], ids=["generated", "emotions"])
def scored(request: pytest.FixtureRequest) -> Scored:
    make: Callable[[], Scored] = request.param
    return make()


def expected(scored: Scored, weights: NDArray[np.float64] | None = None) -> dict[str, float]:
    """What scikit-learn says, every number that it has; no label may be missing from the set."""
    gold, predicted, scores = scored.gold, scored.predicted, scored.scores
    undefined = {"zero_division": np.nan, "sample_weight": weights}
    each = f1_score(gold, predicted, average=None, **undefined)
    return {
        "micro_f1": f1_score(gold, predicted, average="micro", **undefined),
        "micro_precision": precision_score(gold, predicted, average="micro", **undefined),
        "micro_recall": recall_score(gold, predicted, average="micro", **undefined),
        "macro_f1": f1_score(gold, predicted, average="macro", **undefined),
        "macro_precision": precision_score(gold, predicted, average="macro", **undefined),
        "macro_recall": recall_score(gold, predicted, average="macro", **undefined),
        "label_f1": f1_score(gold, predicted, average="weighted", **undefined),
        **{f"f1_{label}": value for label, value in zip(scored.labels, each, strict=True)},
        "average_precision": average_precision_score(gold, scores, average="macro", sample_weight=weights),
        "average_precision_micro": average_precision_score(gold, scores, average="micro", sample_weight=weights),
        "hamming": hamming_loss(gold, predicted, sample_weight=weights),
        "subset_accuracy": accuracy_score(gold, predicted, sample_weight=weights),
    }


def test_scikit_learn_agrees(scored: Scored) -> None:
    samples = scored.samples()
    assert len(samples) >= 200
    found = {key: value for name in NAMES for key, value in scored.metric(name).score(samples).items()}
    assert found == pytest.approx(expected(scored), rel=1e-12)
    assert 0.1 < found["macro_f1"] < 0.95, "the model is neither useless nor perfect"


def test_scikit_learn_agrees_on_tied_scores() -> None:
    coarse = generated()._replace(scores=np.round(generated().scores, 1))
    found = {key: value for name in NAMES for key, value in coarse.metric(name).score(coarse.samples()).items()}
    assert found == pytest.approx(expected(coarse), rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_resamples_are_scikit_learns_weights(name: str) -> None:
    """Every set of a bootstrap has the value that scikit-learn gives to its weights; the interval holds the value."""
    scored = generated()
    metric = scored.metric(name)
    stats_NK = metric.measure(scored.samples())
    weights_BN = next(resamples(len(stats_NK), 5, seed=4))
    values = metric.combine(stats_NK, weights_BN)
    for index, weights_N in enumerate(weights_BN):
        truth = expected(scored, weights_N)
        found = {key: float(value_B[index]) for key, value_B in values.items()}
        assert found == pytest.approx({key: truth[key] for key in found}, rel=1e-12)
    drawn = bootstrap(lambda weights_BN: metric.combine(stats_NK, weights_BN), len(stats_NK), draws=200, seed=4)
    assert [float(value) for value in drawn[name][:5]] == pytest.approx(values[name].tolist(), rel=1e-12)
    bounds = interval(drawn[name])
    assert bounds is not None
    assert bounds.low < metric.score(scored.samples())[name] < bounds.high


@pytest.mark.parametrize("name", NAMES)
def test_samples_without_labels_count_for_nothing(name: str) -> None:
    scored = generated()._replace(scores=np.floor(generated().scores * 3) / 3)
    assert ((scored.scores == 0) & (scored.gold == 1)).any(), "there are rows that an absent one could pass for"
    samples = scored.samples()
    unlabelled = [Sample(f"text {index}", "", "a", "a") for index in range(20)]
    metric = scored.metric(name)
    assert metric.score([*unlabelled, *samples, *unlabelled]) == pytest.approx(metric.score(samples), nan_ok=True)


@pytest.mark.parametrize("name", NAMES)
def test_without_labels_there_is_no_value(name: str) -> None:
    """A metric that knows no label, as that of an evaluation of texts, has nothing to say and does not fail."""
    metric = METRICS.get(name).create(Context())
    assert isinstance(metric, Measured)
    assert all(math.isnan(value) for value in metric.score([Sample("1", "", "a", "a")]).values())


def test_a_label_that_is_missing_from_the_set() -> None:
    # joy is right, fear is true and never predicted, rage is predicted and never true, calm is neither.
    row_of = row("1", {"joy": 0.9, "fear": 0.1, "rage": 0.9, "calm": 0.1}, ["joy", "fear"])
    labels = list(row_of.labels.scores)
    nan = math.nan
    assert MacroF1(labels).score([row_of]) == {
        "macro_f1": pytest.approx(1 / 3),  # of joy 1, fear 0, rage 0
        "macro_precision": 0.5,  # of joy 1, rage 0
        "macro_recall": 0.5,  # of joy 1, fear 0
    }
    assert LabelF1(labels).score([row_of]) == pytest.approx(
        {"label_f1": 0.5, "f1_joy": 1.0, "f1_fear": 0.0, "f1_rage": 0.0, "f1_calm": nan}, nan_ok=True
    )
    assert MicroF1(labels).score([row_of])["micro_f1"] == 0.5  # 2 * 1 / (2 + 2)
    assert AveragePrecision(labels).score([row_of]) == {
        "average_precision": 1.0,  # of joy and fear, which are true in all samples
        "average_precision_micro": 0.5 * 0.5 + 0.5 * 0.5,  # joy ties with rage, fear with calm
    }
    assert (Hamming(labels).score([row_of]), SubsetAccuracy(labels).score([row_of])) == (
        {"hamming": 0.5},
        {"subset_accuracy": 0.0},
    )


@pytest.mark.parametrize(
    ("score", "values"),
    [
        (0.1, dict.fromkeys(NAMES, math.nan) | {"hamming": 0.0, "subset_accuracy": 1.0}),
        (0.9, dict.fromkeys(NAMES, 0.0) | {"hamming": 1.0, "average_precision": math.nan}),
    ],
    ids=["nothing predicted", "something predicted"],
)
def test_nothing_is_true(score: float, values: dict[str, float]) -> None:
    scored = Scored(["joy", "fear"], np.full((2, 2), score), np.zeros((2, 2), int), {})
    found = {name: scored.metric(name).score(scored.samples())[name] for name in NAMES}
    assert found == pytest.approx(values, nan_ok=True)


def test_a_threshold_is_reached_by_its_own_score() -> None:
    labels = ["joy", "fear"]
    samples = [row("1", {"joy": 0.7, "fear": 0.5}, ["joy", "fear"])]
    assert SubsetAccuracy(labels, {"joy": 0.7}).score(samples) == {"subset_accuracy": 1.0}
    assert SubsetAccuracy(labels, {"joy": math.nextafter(0.7, 1)}).score(samples) == {"subset_accuracy": 0.0}


def test_order_of_labels_does_not_matter() -> None:
    scored = generated()
    for name in NAMES:
        turned = METRICS.get(name).create(Context(labels=(*scored.labels[::-1],), thresholds=scored.thresholds))
        assert isinstance(turned, Measured)
        samples = scored.samples()
        assert turned.score(samples) == pytest.approx(scored.metric(name).score(samples), rel=1e-12)


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        (row("7", {"joy": 0.5, "rage": 0.5}, []), ["'fear', 'joy'", "'joy', 'rage'", "'7'"]),
        (row("7", {"joy": 0.5}, []), ["'fear', 'joy'", "Got scores of 'joy' in", "'7'"]),
        (row("7", {}, []), ["'fear', 'joy'", "Got scores of none in", "'7'"]),
        (row("7", {"joy": 0.5, "fear": 0.5}, ["joy", "rage"]), ["'fear', 'joy'", "Got 'rage' in", "'7'"]),
        (row("7", {"joy": math.nan, "fear": 0.5}, []), ["from 0 to 1", "nan", "'joy'", "'7'"]),
        (row("7", {"joy": 0.5, "fear": -3.2}, []), ["from 0 to 1", "-3.2", "'fear'", "'7'"]),
    ],
    ids=["other", "fewer", "none", "true label", "not a number", "logit"],
)
@pytest.mark.parametrize("name", NAMES)
def test_labels_that_do_not_fit_are_refused(name: str, sample: Sample, words: list[str]) -> None:
    metric = METRICS.get(name).create(Context(labels=("fear", "joy")))
    assert isinstance(metric, Measured)
    with pytest.raises(InputError) as error:
        metric.score([row("6", {"joy": 0.5, "fear": 0.5}, ["joy"]), sample])
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize(
    ("labels", "thresholds", "words"),
    [
        (["joy", "joy"], {}, "each label once"),
        (["joy"], {"rage": 0.5}, "'joy'. Got one of 'rage'"),
        (["joy"], {"joy": 1.5}, "Got 1.5 for 'joy'"),
        (["joy"], {"joy": math.nan}, "Got nan for 'joy'"),
    ],
)
def test_labels_and_thresholds_are_checked(labels: list[str], thresholds: dict[str, float], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        MacroF1(labels, thresholds)
