"""Every failure that a user can cause, as a typed tree.

::

    KDError                      1   anything below; catch this to catch all
    ├── UsageError               2   the command line or the configuration is wrong
    │   └── UnknownNameError     2   a name no registry knows ("did you mean ...?")
    ├── InputError               3   source rows cannot be used
    │   ├── RowError             3   one row; quarantined by a build unless --strict
    │   └── EmptyInputError      3   no usable row at all
    ├── MismatchError            4   two things that must agree do not; both are named
    ├── StoreError               5   a path is not a store, or not a finished one
    │   └── CorruptStoreError    6   a store's bytes are not what its manifest says
    ├── CapabilityError          7   what was asked cannot be served (temperature, device, dtype)
    ├── ModelError               8   a model or tokenizer directory cannot be loaded
    ├── TrainingError            9   training cannot go on (non-finite loss, run directory in use)
    └── RequeueError            75   stopped by SIGUSR1 with a checkpoint: run the same command again

An exception carries one line that says what was expected, what came, and what to do. Commands print that
line on stderr and exit with the class's ``exit_code``; 130 is Ctrl-C, 143 SIGTERM. ``kind`` is the stable
name that ``--json`` output and logs use. ``docs/errors.md`` lists the same table; a test compares them.
"""

from typing import ClassVar


class KDError(Exception):
    """Base of everything the packages raise on purpose."""

    kind: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1


class UsageError(KDError):
    """The command line or the configuration is wrong."""

    kind = "usage"
    exit_code = 2


class UnknownNameError(UsageError):
    """A name that no registry knows."""

    kind = "unknown-name"


class InputError(KDError):
    """Source rows cannot be used."""

    kind = "input"
    exit_code = 3


class RowError(InputError):
    """One row cannot be used; a build quarantines it with this reason unless told to be strict."""

    kind = "row"


class EmptyInputError(InputError):
    """No usable row at all."""

    kind = "empty-input"


class MismatchError(KDError):
    """Two things that must agree do not; the message names both values."""

    kind = "mismatch"
    exit_code = 4


class StoreError(KDError):
    """A path is not a store, or not a finished one."""

    kind = "store"
    exit_code = 5


class CorruptStoreError(StoreError):
    """A store's bytes are not what its manifest says."""

    kind = "corrupt"
    exit_code = 6


class CapabilityError(KDError):
    """What was asked cannot be served: a temperature without stored tail mass, fp16 on a CPU."""

    kind = "capability"
    exit_code = 7


class ModelError(KDError):
    """A model or tokenizer directory cannot be loaded."""

    kind = "model"
    exit_code = 8


class TrainingError(KDError):
    """Training cannot go on."""

    kind = "training"
    exit_code = 9


class RequeueError(KDError):
    """Training was told to make room; it has kept a checkpoint, and the same command continues it."""

    kind = "requeue"
    exit_code = 75  # EX_TEMPFAIL of sysexits.h


def first_line(error: Exception) -> str:
    """The first line of an error of another library, which may have many or none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
