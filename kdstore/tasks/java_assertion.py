"""Predict the assertion of a Java unit test from the method under test and the test before the assertion."""

import hashlib
import json
from typing import Any

from kdstore.errors import RowError
from kdstore.schema import Example, Record
from kdstore.tasks import TASKS, Task

_FOCAL = ("focal_method", "focal_file")
_TEST = ("test_method", "test_method_masked")
_TARGET = ("assertion", "assertions", "original_target")


class JavaAssertion(Task):
    """The test up to an assertion, and the method it tests, give the assertion.

    Two sets of keys are read: ``focal_method``, ``test_method``, ``assertion``; and ``focal_method`` or
    ``focal_file``, ``test_method_masked``, ``assertions`` (a list, joined by line breaks) or
    ``original_target``. Where a record holds several names of one thing, the first one counts.

    The prompt ends with the test: an encoder that must shorten it cuts on the left, so that the statements
    next to the assertion survive.

    The test of a later assertion contains the earlier ones, so all rows of one test file form one group; rows
    without a path are grouped by their focal method.
    """

    name = "java_assertion"
    template = "{focal_method}\n{test_method}"
    text_columns = ("assertion", "repo", "path")
    target_column = "assertion"
    losses = ("ce", "kl")
    metrics = (
        "code_quality", "semantic_similarity", "knowledge_retention", "exact_match", "f1", "codebleu", "pans",
        "ast_validity", "tree_sitter_validity", "javac_validity", "bleu", "edit_similarity", "line_f1",
        "assertion_kind", "length_ratio", "code_quality_semantic", "output_agreement", "token_accuracy",
        "critical_token_accuracy", "loss", "perplexity", "calibration", "kl", "top1_agreement",
    )  # fmt: skip

    def example(self, record: Record) -> Example:
        """Turn a record of either key set into an example.

        Raises
        ------
        RowError
            A key is missing, empty, or of the wrong type.
        """
        focal = _required(record, _FOCAL)
        target = _required(record, _TARGET)
        repo, path = _optional(record, "repo"), _optional(record, "path")
        return Example(
            id=_identity(record),
            prompt=self.template.format(focal_method=focal, test_method=_required(record, _TEST)),
            target=target,
            group=f"{repo}:{path}" if path else f"focal:{_digest(' '.join(focal.split()))}",
            texts={"assertion": target, "repo": repo, "path": path},
        )


JAVA_ASSERTION = TASKS.register("java_assertion")(JavaAssertion())


def _required(record: Record, keys: tuple[str, ...]) -> str:
    key = next((key for key in keys if record.get(key) not in (None, "", [])), None)
    if key is None:
        raise RowError(f"Expected text under {' or '.join(keys)}. Got none. Add it or drop the row.")
    text = _joined(key, record[key]).rstrip()
    if not text.strip():
        raise RowError(f"Expected text under {key!r}. Got nothing but space. Fill it or drop the row.")
    return text


def _joined(key: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if key == "assertions" and isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "\n".join(line.strip() for line in value if line.strip())
    raise RowError(f"Expected text under {key!r}. Got {type(value).__name__}. Correct the row.")


def _optional(record: Record, key: str) -> str:
    value = record.get(key)
    if value is not None and not isinstance(value, str):
        raise RowError(f"Expected text under {key!r}. Got {type(value).__name__}. Correct or remove it.")
    return value or ""


def _identity(record: Record) -> str:
    given = record.get("id")
    if given is None:
        return _digest(json.dumps(record, sort_keys=True, ensure_ascii=False, separators=(",", ":")))
    if isinstance(given, bool) or not isinstance(given, str | int) or given == "":
        raise RowError(f"Expected a text or a whole number under 'id'. Got {given!r:.40}. Correct or remove it.")
    return str(given)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
