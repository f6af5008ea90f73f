"""What a training run wrote down of itself: ``config.json`` and ``training_report.json``."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from kdeval.report.wording import cut
from kdstore.errors import InputError
from kdstore.store.files import read_bounded, sha256_file
from kdtrain.sections import LossConfig

CONFIG: Final = "config.json"
REPORT: Final = "training_report.json"
MAX_ANGLE: Final[float] = LossConfig.model_fields["max_angle"].default
_MAX_BYTES = 16 << 20
_MOST, _LONGEST = 400, 300

Facts = dict[str, str]


@dataclass(frozen=True)
class Trained:
    """Settings of a training run, flat, and what its report says of the run; empty where there is no such file."""

    config: Mapping[str, Any] = field(default_factory=dict)
    config_sha256: str | None = None
    run: Mapping[str, Any] = field(default_factory=dict)

    @property
    def facts(self) -> Facts:
        """The settings as texts."""
        known = [(key, value) for key, value in self.config.items() if value is not None]
        return {cut(key, _LONGEST): _text(value) for key, value in known[:_MOST]}

    @property
    def max_angle(self) -> float:
        """From how many degrees on training refused a store."""
        given = self.config.get("loss.max_angle")
        return float(given) if isinstance(given, int | float) and 0 < given <= 180 else MAX_ANGLE

    @property
    def accepted(self) -> bool:
        """Whether it was told to train on such a store nevertheless."""
        return self.config.get("loss.accept_infidelity") is True

    @property
    def seed(self) -> str | None:
        """The seed of the run; None where the settings have none."""
        seed = self.config.get("run.seed")
        return None if seed is None else cut(str(seed), _LONGEST)

    @property
    def loss(self) -> str | None:
        """The loss components, or the name of a fixed choice of them; None where the settings have neither."""
        components, function = (self.config.get(f"loss.{name}") for name in ("loss_components", "loss_function"))
        if function in (None, "multi_component") and isinstance(components, list) and components:
            return cut(" + ".join(map(str, components)), _LONGEST)
        return None if function is None else _text(function)

    def told(self, name: str) -> str | None:
        """An entry of the report; None where it has none."""
        value = self.run.get(name)
        return None if value is None else _text(value)

    def stores(self, name: str) -> dict[str, str]:
        """Paths of the stores under ``train_stores`` or ``val_stores``, with their fingerprints."""
        found = self.run.get(name)
        return {key: str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def read_trained(run: Path) -> Trained:
    """What training left in ``run``.

    Raises
    ------
    InputError
        A file is no JSON object, or larger than 16 MiB.
    """
    report = _read(run / REPORT).get("run")
    path = run / CONFIG
    return Trained(
        config=dict(_flat("", _read(path))),
        config_sha256=sha256_file(path) if path.is_file() else None,
        run=report if isinstance(report, dict) else {},
    )


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    if path.stat().st_size > _MAX_BYTES:
        raise InputError(f"Expected at most {_MAX_BYTES:,} bytes in {path}. Got more. Restore the file or remove it.")
    try:
        found = json.loads(read_bounded(path, _MAX_BYTES))
    except (ValueError, RecursionError) as error:
        raise InputError(f"Expected JSON in {path}. Got: {error}. Restore the file or remove it.") from None
    if not isinstance(found, dict):
        raise InputError(f"Expected a JSON object in {path}. Got {cut(repr(found), 40)}. Restore or remove the file.")
    return found


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Every value with the names of the tables around it."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else key, item)
    else:
        yield prefix, value


def _text(value: Any) -> str:
    return cut(value if isinstance(value, str) else json.dumps(value), _LONGEST)
