"""The checks, in order."""

from typing import Final

from kdtrain.preflight.findings import Check
from kdtrain.preflight.leak import leak
from kdtrain.preflight.memory import memory
from kdtrain.preflight.model import model, streaming, student, tokenizer
from kdtrain.preflight.output import checkpoints, disk, output
from kdtrain.preflight.rows import lengths, rows, teacher
from kdtrain.preflight.settings import settings
from kdtrain.preflight.step import batch, step
from kdtrain.preflight.stores import alignment, compatibility, fidelity, integrity, loss, stores
from kdtrain.preflight.surroundings import command, dependencies, device, validator

CHECKS: Final = (
    Check("dependencies", dependencies),
    Check("device", device),
    Check("stores", stores),
    Check("integrity", integrity),
    Check("compatibility", compatibility, ("stores",)),
    Check("loss", loss, ("stores",)),
    Check("alignment", alignment),
    Check("fidelity", fidelity, ("loss",)),
    Check("leak", leak, ("stores",)),
    Check("rows", rows, ("stores",)),
    Check("lengths", lengths, ("stores",)),
    Check("teacher", teacher, ("lengths", "loss")),
    Check("validator", validator),
    Check("command", command),
    Check("output", output),
    Check("model", model, ("stores",)),
    Check("tokenizer", tokenizer, ("model", "loss")),
    Check("streaming", streaming, ("device", "loss")),
    Check("student", student, ("compatibility", "tokenizer", "streaming")),
    Check("checkpoints", checkpoints, ("output", "student")),
    Check("disk", disk, ("student",)),
    Check("memory", memory, ("student", "lengths")),
    Check("batch", batch, ("memory",)),
    Check("step", step, ("batch",)),
    Check("settings", settings, ("student",)),
)
