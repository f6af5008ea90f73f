"""A schema for each file that an evaluation writes, for whoever reads them with other programs."""

from typing import Any, Final

from pydantic import TypeAdapter

from kdeval.results import (
    COMPARISON,
    PREDICTIONS,
    SAMPLES_TABLE,
    STATISTICS,
    SUMMARY,
    Comparison,
    Results,
    prediction_schema,
)
from kdeval.score import WHO

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_MODELS: Final[dict[str, TypeAdapter[Any]]] = {
    SUMMARY: TypeAdapter(Results),
    COMPARISON: TypeAdapter(Comparison),
    PREDICTIONS: prediction_schema(),
}


def schemas() -> dict[str, dict[str, Any]]:
    """By file name: JSON Schema of a JSON file, or of each line of JSON Lines; Table Schema of the table."""
    found = {
        name: model.json_schema(mode="serialization") | {"$schema": _DIALECT, "title": name}
        for name, model in _MODELS.items()
    }
    return found | {SAMPLES_TABLE: _table(), STATISTICS: _statistics()}


def _table() -> dict[str, Any]:
    """Columns of the table (specs.frictionlessdata.io/table-schema). Those of metrics depend on the run."""
    return {
        "title": SAMPLES_TABLE,
        "description": "One row per sample, in the order of the data. After these columns one for each metric and "
        "part by name, and one for the teacher's of each, with 'teacher_' before it; empty where it is undefined.",
        "fields": [{"name": name, "type": "string"} for name in WHO]
        + [{"name": "<metric>", "type": "number"}, {"name": "teacher_<metric>", "type": "number"}],
        "missingValues": [""],
    }


def _statistics() -> dict[str, Any]:
    return {
        "title": STATISTICS,
        "description": "safetensors. 'student.<metric>' and 'teacher.<metric>': float64, uint16 or uint32 "
        "[rows, statistics] of each metric that looks at samples, rows in the order of predictions_final.jsonl. The "
        "columns are the metric's `columns`; values of any weighted set of rows are its `combine`.",
    }
