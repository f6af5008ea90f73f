"""What fidelity says must be what happens to a student's gradients."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kdstore.codecs import Codec, DenseSignal, Output, Sample, fit_codec
from kdstore.encode.teacher import Teacher
from kdstore.errors import CapabilityError, EmptyInputError, MismatchError
from kdstore.fidelity.divergence import DIVERGENCES
from kdstore.fidelity.drift import Drift, ratio
from kdstore.fidelity.measure import Subject, measure
from kdstore.fidelity.plan import recommend
from kdstore.fidelity.probe import Probe
from kdstore.fidelity.reference import LabelFrequencies, TrainedStudent
from kdstore.fidelity.size import Layout
from kdstore.fidelity.trial import Candidate, Trial, run_trials
from kdstore.store.manifest import Fidelity

from ..codec_tools import fitted, linear_output, recorded

V = 400  # the test teacher's own vocabulary


@pytest.fixture(scope="module")
def student(teacher: Path) -> Teacher:
    return Teacher(str(teacher), "cpu", "fp32", 4)


@pytest.fixture(scope="module")
def probe(student: Teacher) -> Probe:
    """30 rows with the output of another random teacher."""
    generator = torch.Generator().manual_seed(3)
    lengths = [2 + index % 5 for index in range(30)]
    labels = [torch.randint(3, V, (n,), generator=generator).tolist() for n in lengths]
    inputs = [torch.randint(3, V, (6,), generator=generator).tolist() for _ in lengths]
    output, head = linear_output(sum(lengths), student.vocab_size, 5)
    return Probe(inputs, labels, Sample(hidden_FD=output.hidden_LD, head=head))


def frequencies(probe: Probe) -> LabelFrequencies:
    ids = torch.tensor([token for row in probe.labels for token in row])
    return LabelFrequencies(torch.bincount(ids, minlength=probe.sample.vocab_size))


def dense(probe: Probe, **config: str) -> Codec:
    return fit_codec("dense", config, probe.sample)


def by_temperature(records: list[Fidelity], divergence: str = "kl") -> dict[float, Fidelity]:
    return {record.temperature: record for record in records if record.divergence == divergence}


def test_a_signal_that_keeps_everything_is_perfect(probe: Probe) -> None:
    found = measure([Subject(dense(probe, dtype="f32"), 0)], probe, frequencies(probe), batch_positions=40)[0]
    assert {(record.divergence, record.temperature) for record in found} == {
        (divergence, T) for divergence in ("kl", "jsd", "reverse_kl") for T in (1.0, 2.0, 4.0)
    }
    for record in found:
        assert record.angle_worst_deg < 0.05
        assert record.norm_ratio == pytest.approx(1, abs=1e-4)
        assert record.kl_mean == pytest.approx(0, abs=1e-5)
        assert record.top1_agreement == 1


def test_a_trained_students_angle_is_that_of_its_parameter_gradients(probe: Probe, student: Teacher) -> None:
    """Against backward() over the whole batch at once."""
    codec = dense(probe, dtype="int4")
    record = by_temperature(
        measure([Subject(codec, 0)], probe, TrainedStudent(student, "0" * 64, rows=7), batch_positions=10_000)[0]
    )
    output = next(probe.sample.chunks(probe.positions))
    for T in (1.0, 4.0):
        gradients = []
        for signal in (DenseSignal(output.logits_LV), codec.decode(codec.encode(output), T)):
            student.model.zero_grad()
            DIVERGENCES["kl"](signal, student.logits(probe.inputs, probe.labels), T).mean().backward()
            parameters = [p.grad.flatten().double() for p in student.model.parameters() if p.grad is not None]
            gradients.append(torch.cat(parameters))
        full, kept = gradients
        cosine = float(full @ kept / full.norm() / kept.norm())
        assert record[T].angle_deg == pytest.approx(math.degrees(math.acos(cosine)), abs=0.02)
        assert record[T].norm_ratio == pytest.approx(float(kept.norm() / full.norm()), rel=1e-3)
        assert record[T].reference.endswith("(000000000000)")


def test_the_student_that_knows_frequencies_is_compared_at_its_logits(probe: Probe) -> None:
    codec, reference = dense(probe, dtype="int4"), frequencies(probe)
    output = next(probe.sample.chunks(probe.positions))
    for T, record in by_temperature(
        measure([Subject(codec, 0)], probe, reference, batch_positions=10_000)[0]
    ).items():
        q = torch.softmax(reference.logits_V / T, -1)
        full = (q - torch.softmax(output.logits_LV / T, -1)).mean(0)
        kept = (q - codec.decode(codec.encode(output), T).log_probs(T).exp()).mean(0)
        cosine = float(torch.nn.functional.cosine_similarity(full, kept, dim=0))
        assert record.angle_deg == pytest.approx(math.degrees(math.acos(cosine)), abs=0.02)
    counts = torch.tensor([token for row in probe.labels for token in row]).bincount(minlength=V) + 1
    torch.testing.assert_close(reference.logits_V.exp()[:V], counts[:V] / (counts.sum()), rtol=1e-4, atol=1e-7)


def test_the_gradient_in_closed_form_is_autograds(probe: Probe) -> None:
    from kdstore.fidelity.measure import _gradient

    output = next(probe.sample.chunks(20))
    leaf = torch.randn_like(output.logits_LV).requires_grad_()
    for T in (1.0, 3.0):
        signal = DenseSignal(output.logits_LV)
        expected = torch.autograd.grad(DIVERGENCES["kl"](signal, leaf, T).sum(), leaf)[0]
        torch.testing.assert_close(_gradient("kl", signal, leaf, T), expected, atol=1e-5, rtol=1e-4)


def test_what_a_codec_cannot_serve_is_not_measured(probe: Probe) -> None:
    codecs = [fit_codec("topk", {"temperatures": [1.0]}, probe.sample), fit_codec("sampled", {}, probe.sample)]
    topk, sampled = measure([Subject(codec, 0) for codec in codecs], probe, frequencies(probe))
    assert {(r.divergence, r.temperature) for r in topk} == {("kl", 1.0), ("jsd", 1.0), ("reverse_kl", 1.0)}
    assert {(r.divergence, r.temperature) for r in sampled} == {("kl", 1.0)}
    assert sampled[0].kl_mean is None


def test_a_temperature_that_a_codec_serves_alone_is_measured(probe: Probe) -> None:
    codec = fit_codec("topk", {"temperatures": [3.0]}, probe.sample)
    assert {r.temperature for r in measure([Subject(codec, 0)], probe, frequencies(probe))[0]} == {3.0}


def test_a_student_that_is_the_teacher_is_refused(probe: Probe, student: Teacher) -> None:
    with torch.no_grad():
        logits_LV = student.logits(probe.inputs, probe.labels)
    itself = Probe(probe.inputs, probe.labels, Sample(logits_FV=logits_LV))
    with pytest.raises(CapabilityError, match="differs from the teacher"):
        measure([Subject(dense(itself), 0)], itself, TrainedStudent(student, "0" * 64))


def test_batches_are_whole_rows_and_what_is_left_is_not_counted(probe: Probe) -> None:
    record = measure([Subject(dense(probe), 0)], probe, frequencies(probe), batch_positions=25)[0][0]
    sizes = [batch.positions for batch in probe.batches(25)]
    assert all(25 <= size < 25 + 6 for size in sizes)
    assert record.positions == sum(sizes) <= probe.positions
    assert record.batch_positions == 25
    assert record.angle_worst_deg >= record.angle_deg


def test_stored_arrays_are_measured_as_they_are(probe: Probe) -> None:
    """A store whose signal lies one position off is far from true, whatever its codec could do."""
    codec = dense(probe, dtype="f16")
    arrays = codec.encode(next(probe.sample.chunks(probe.positions)))

    def moved(piece: slice) -> dict[str, Tensor]:
        return {name: values.roll(1, 0)[piece] for name, values in arrays.items()}

    good, bad = measure(
        [Subject(codec, 0, lambda piece: {n: v[piece] for n, v in arrays.items()}), Subject(codec, 0, moved)],
        probe, frequencies(probe), batch_positions=40,
    )  # fmt: skip
    good_kl, bad_kl = by_temperature(good)[2.0].kl_mean, by_temperature(bad)[2.0].kl_mean
    assert good_kl is not None
    assert good_kl < 1e-4
    assert bad_kl is not None
    assert bad_kl > 0.5


def test_a_student_of_another_vocabulary_is_refused(probe: Probe, student: Teacher) -> None:
    output, head = linear_output(probe.positions, 77)
    other = Probe(probe.inputs, probe.labels, Sample(hidden_FD=output.hidden_LD, head=head))
    with pytest.raises(MismatchError, match="scores 77 ids"):
        measure([Subject(fitted("dense", 77), 0)], other, TrainedStudent(student, "0" * 64))


def test_trials_measure_bytes_on_disk_and_a_target_picks_among_them(probe: Probe) -> None:
    fit, rest = probe.head(60)
    candidates = [Candidate("dense", {"dtype": dtype}) for dtype in ("int4", "int8", "f16")]
    trials = run_trials(candidates, fit.sample, rest, frequencies(probe), Layout(8, 1000))
    sizes = [trial.bytes_per_token for trial in trials]
    assert sizes == sorted(sizes)
    assert trials[0].angle() > trials[1].angle() > trials[2].angle()
    assert recommend(trials, trials[1].angle() + 1e-6, None) is trials[1]
    assert recommend(trials, None, sizes[1] + 1) is trials[1]
    with pytest.raises(CapabilityError, match=r"within 1e-09 degrees. Got .* f16"):
        recommend(trials, 1e-9, None)
    with pytest.raises(CapabilityError, match="at most 1 bytes"):
        recommend(trials, None, 1)
    assert isinstance(trials[0], Trial)


def test_a_target_is_not_met_by_serving_less_or_by_measuring_nothing(probe: Probe) -> None:
    fit, rest = probe.head(60)
    sampled = [Candidate("sampled", {"draws": n}) for n in (5, 500)]
    trials = run_trials([*sampled, Candidate("dense", {})], fit.sample, rest, frequencies(probe), Layout(8, 1000))
    assert recommend(trials, 90, None) is trials[2]
    assert recommend(trials[:2], None, 1e6) is trials[1], "more draws are truer"
    empty = run_trials(sampled, fit.sample, rest.rows(0, 0), frequencies(probe), Layout(8, 1000))
    with pytest.raises(EmptyInputError, match="left to measure"):
        recommend(empty, 10, None)


def test_drift_tells_rows_that_the_fit_has_not_seen_from_those_it_has() -> None:
    output, head = linear_output(400, 300, seed=1, width=16)
    config = {"rank": 16, "step": 0.1, "threshold": 0.05}
    codec = fit_codec("lowrank", config, Sample(hidden_FD=output.hidden_LD, head=head))
    same, foreign = Drift(codec), Drift(codec)
    same.add(linear_output(64, 300, seed=2, width=16)[0])
    foreign.add(Output(torch.randn(64, 300, generator=torch.Generator().manual_seed(4)) * 4))
    assert same.kl is not None
    assert foreign.kl is not None
    assert foreign.kl > 3 * same.kl
    record = recorded(codec)[0]
    assert ratio(same.kl, record) is None  # nothing to compare with
    unfitted = Drift(fitted("dense", 300))
    unfitted.add(output)
    assert unfitted.kl is None
