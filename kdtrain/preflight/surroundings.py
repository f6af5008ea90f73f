"""What a run finds around it: packages, the device, a validator, the command afterwards."""

import platform
import shutil
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Final

import torch
from packaging.requirements import Requirement

from kdstore.encode.device import resolve_device, resolve_dtype
from kdtrain.models.writing import reference_column
from kdtrain.preflight.findings import Found, failed, passed, skipped, warned
from kdtrain.preflight.flight import Flight
from kdtrain.run import find_program
from kdtrain.sections import NONE
from kdtrain.stream.memory import available_bytes
from kdtrain.validators import VALIDATORS

_DISTRIBUTION: Final = "kdstore"
# Training reads embeddings that a build has stored; it makes none.
_FOR_BUILDS: Final = {"sentence-transformers"}
_SHOWN: Final = ("torch", "transformers", "tokenizers", "zarr", "javalang")
_TEXTS = 8


def dependencies(flight: Flight) -> Iterator[Found]:
    """Are the packages there that ours asks for, in versions that it works with, and which validators are?"""
    try:
        wanted = requires(_DISTRIBUTION) or []
    except PackageNotFoundError:
        yield warned(f"{_DISTRIBUTION} runs without being installed: what it needs is not known")
        wanted = []
    missing = unmet(wanted)
    yield from (failed(text) for name, text in missing.items() if name not in _FOR_BUILDS)
    yield from (warned(f"{text} Training does without.") for name, text in missing.items() if name in _FOR_BUILDS)
    shown = [f"{name} {version(name)}" for name in _SHOWN if name not in missing]
    yield passed(f"python {platform.python_version()}, {', '.join(shown)}; validators: {_validators()}")


def unmet(wanted: Sequence[str]) -> dict[str, str]:
    """Of some requirements those that are not met, by name, in words; extras are left out."""
    found = {}
    for requirement in map(Requirement, wanted):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            installed = "none"
        if installed == "none" or not requirement.specifier.contains(installed, prereleases=True):
            found[requirement.name] = (
                f"Expected the package {requirement}. Got {installed}. pip install '{requirement}'."
            )
    return found


def device(flight: Flight) -> Iterator[Found]:
    """Is the device there, and can it compute in the number format?"""
    run = flight.config.run
    flight.device = resolve_device(run.device)
    resolve_dtype(run.dtype, flight.device)
    if flight.device.type != "cuda":
        if shutil.which("nvidia-smi"):
            yield warned("there is an NVIDIA driver here, and torch finds no GPU or was told not to use one")
        free = f"{available_bytes() / 2**30:,.1f} GiB of memory available"
        yield passed(f"{flight.device} in {run.dtype}, {torch.get_num_threads()} threads, {free}")
        return
    if run.dtype == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        yield warned("this GPU only emulates bf16, slowly: --dtype fp16 is faster")
    free_bytes, total = torch.cuda.mem_get_info(flight.device)
    yield passed(
        f"{flight.device} in {run.dtype}: {torch.cuda.get_device_name(flight.device)}, CUDA {torch.version.cuda}, "
        f"{free_bytes / 2**30:,.1f} of {total / 2**30:,.1f} GiB free"
    )


def validator(flight: Flight) -> Iterator[Found]:
    """Does the validator exist, and does it find that references are like themselves?"""
    settings = flight.config.validation
    if settings.validator == NONE:
        yield skipped("none is configured")
        return
    kind = VALIDATORS.get(settings.validator)
    val = [store for store in flight.opened if store.root == flight.request.val]
    if not val:
        yield skipped(f"{settings.validator!r} is there, and no validation store to use it on")
        return
    column = reference_column(val[0])
    part, block = val[0].blocks()[0]
    found = val[0].part(part).read(block, block + 1, [column])
    texts = [found.row(index)[column] for index in range(min(_TEXTS, found.rows))]
    scores = kind(settings.use_enhanced_metrics).score(texts, texts)
    listed = ", ".join(f"{name} {value:.3g}" for name, value in scores.items())
    yield passed(f"{settings.validator}: {listed} for {len(texts)} references that are their own predictions")


def command(flight: Flight) -> Iterator[Found]:
    """Is the program there that runs after training?"""
    after = flight.request.after
    if not after:
        yield skipped("none is to run after training")
    elif flight.request.val is None and any("{val}" in part for part in after):
        yield skipped(f"{after[0]} will not run: it needs a validation store")
    elif path := find_program(after[0]):
        yield passed(f"after training runs {path}")
    else:
        yield failed(
            f"Expected the program {after[0]} that the recipe runs after training. Got none. Install it, or pass "
            "--no-after."
        )


def _validators() -> str:
    return ", ".join(VALIDATORS.names()) or "none"
