"""Responses of vLLM and OpenAI servers with ``logprobs`` or ``prompt_logprobs``."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from kdstore.errors import RowError
from kdstore.importers import IMPORTERS, Candidates, Importer
from kdstore.importers._candidates import check, from_capture, ordered
from kdstore.importers._files import JSON_LINES, files_of, json_records
from kdstore.importers._tokens import TokenTable
from kdstore.schema import Example, Record
from kdstore.sources import Located, Rejected

_SUFFIXES = (*JSON_LINES, ".json")
_MINUS_INFINITY = -9999.0  # JSON has no infinity; servers write this
_MOST_TOKENS = 1 << 20
_ROUNDING = 1e-3  # a log-probability may be a little above 0


@dataclass
class _Scored:
    """Label tokens as they are read: ids, their log-probabilities, and the candidates of each."""

    ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    candidates: list[list[tuple[int, float]]] = field(default_factory=list)

    def add(self, token: int, log_prob: float, candidates: Sequence[tuple[int, float]]) -> None:
        """One more label token; it is a candidate itself."""
        known = dict(candidates)
        if len(known) < len(candidates) or abs(known.setdefault(token, log_prob) - log_prob) > _ROUNDING:
            raise RowError(
                f"Expected one log-probability per id. Got several at token {len(self.ids)}. Drop the row."
            )
        self.ids.append(token)
        self.log_probs.append(log_prob)
        self.candidates.append(list(known.items()))


@IMPORTERS.register("openai")
class OpenAI(Importer):
    """JSON or JSON Lines, one response each, alone or as ``{"request": {...}, "response": {...}}``.

    Labels are the prompt's tokens but the first where there is a ``prompt_logprobs`` list; else the generated tokens,
    in chat form (``logprobs.content``) or completion form (``logprobs.tokens``). The prompt comes from
    ``prompt_token_ids``, or from the request's ``prompt`` or ``messages``; where the response counts its tokens, the
    count must agree. Token texts must stand for one id each, and the ids must give back the text. A log-probability
    of -9999.0 stands for minus infinity.
    """

    name: ClassVar[str] = "openai"
    sparse: ClassVar[bool] = True
    causal: ClassVar[bool] = True
    max_tokens: ClassVar[tuple[int, int]] = (8192, 8192)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.tokens = TokenTable(self.tokenizer)

    def read(self, path: Path) -> Iterator[Located | Rejected]:
        """See `Importer`; one record per choice."""
        for file in files_of(path, _SUFFIXES):
            for item in json_records(file):
                yield from [item] if isinstance(item, Rejected) else _choices(item)

    def example(self, record: Record) -> Example:
        """See `Importer`."""
        response, choice = record["response"], record["choice"]
        prompt_scores = choice.get("prompt_logprobs") or response.get("prompt_logprobs")
        if prompt_scores is not None:
            ids = self._inputs(record, response, choice)
            inputs, scored = ids[:1], self._prompt(prompt_scores, ids)
        else:
            first, scored = self._generated(choice)
            inputs = [first] if first is not None else self._inputs(record, response, choice)
        sides = [ordered(pairs) for pairs in scored.candidates]
        capture = {
            "input_ids": inputs,
            "labels": scored.ids,
            "ids": [ids for ids, _ in sides],
            "log_probs": [log_probs for _, log_probs in sides],
            "label_log_probs": [None if np.isinf(value) else value for value in scored.log_probs],
        }
        self.signal(capture, scored.ids)
        prompt, target = (self.tokenizer.backend.decode(ids) for ids in (inputs, scored.ids))
        text = json.dumps(record, sort_keys=True)
        identity = hashlib.sha256(text.encode()).hexdigest()[:16]
        group = hashlib.sha256(prompt.encode()).hexdigest()[:16]
        return Example(identity, prompt, target, group, {}, json.dumps(capture))

    def signal(self, capture: Mapping[str, Any], labels: Sequence[int]) -> Candidates:
        """See `Importer`."""
        return check(from_capture(capture), labels, self.vocab_size)

    def _read_headers(self) -> tuple[dict[str, Any], ...]:
        """The model that the first response of every file names."""
        found: dict[str, None] = {}
        for file in (file for path in self.sources for file in files_of(path, _SUFFIXES)):
            first = next(json_records(file), None)
            model = _response(first.record).get("model") if isinstance(first, Located) else None
            found |= {model: None} if isinstance(model, str) else {}
        return tuple({"model": model[:200]} for model in found)

    def _prompt(self, entries: object, ids: list[int]) -> _Scored:
        """The tokens of a scored prompt but the first, which has no score."""
        rows = _list(entries, "prompt_logprobs")
        if len(rows) != len(ids) or len(rows) < 2 or rows[0] is not None:
            raise RowError(
                f"Expected prompt_logprobs for {len(ids)} prompt tokens, at least 2, the first of them null. "
                f"Got {len(rows)}. Use the server's tokenizer, or let it return ids (vLLM: return_token_ids)."
            )
        scored = _Scored()
        for position, (token, entry) in enumerate(zip(ids[1:], rows[1:], strict=True), start=1):
            pairs = [self._by_id(key, value) for key, value in _dict(entry, "prompt_logprobs").items()]
            log_prob = dict(pairs).get(token)
            if log_prob is None:
                raise RowError(
                    f"Expected the id {token} of prompt token {position} among its candidates. Got others. "
                    "Use the server's tokenizer, or let it return ids (vLLM: return_token_ids)."
                )
            scored.add(token, log_prob, pairs)
        return scored

    def _generated(self, choice: Mapping[str, Any]) -> tuple[int | None, _Scored]:
        """The generated tokens; before them the first token of an echoed prompt, which has no score."""
        log_probs = _dict(choice.get("logprobs"), "logprobs of a choice")
        if log_probs.get("content") is not None:
            rows = [_chat_row(entry) for entry in _list(log_probs["content"], "logprobs.content")]
        else:
            columns = [_list(log_probs.get(name), f"logprobs.{name}") for name in _COMPLETION]
            if len({len(column) for column in columns}) != 1:
                raise RowError(f"Expected {', '.join(_COMPLETION)} of equal lengths. Got others. Drop the row.")
            rows = list(zip(*columns, strict=True))
        ids, texts, first = choice.get("token_ids"), [row[0] for row in rows], None
        resolved = [self.tokens.id_of(text) for text in texts] if ids is None else self._given(ids, texts)
        scored = _Scored()
        for position, (token, (_, log_prob, likeliest)) in enumerate(zip(resolved, rows, strict=True)):
            if log_prob is None and position == 0:
                first = token
                continue
            pairs = [
                (self.tokens.id_of(text), _log_prob(value)) for text, value in _dict(likeliest or {}, "top").items()
            ]
            scored.add(token, _log_prob(log_prob), pairs)
        if not scored.ids:
            raise RowError("Expected scored tokens. Got none. Ask the server for logprobs, or drop the row.")
        if ids is None and not any(text.startswith("token_id:") for text in texts):
            self.tokens.check_round_trip(resolved, "".join(texts))
        return first, scored

    def _given(self, ids: object, texts: list[Any]) -> list[int]:
        found = _list(ids, "token_ids")
        if len(found) != len(texts):
            raise RowError(f"Expected {len(texts)} token_ids, one per token. Got {len(found)}. Drop the row.")
        return [self.tokens.checked(token, text) for token, text in zip(found, texts, strict=True)]

    def _by_id(self, key: str, value: object) -> tuple[int, float]:
        entry = _dict(value, "a candidate")
        token = int(key) if key.isascii() and key.isdigit() and len(key) < 9 else -1
        return self.tokens.checked(token, entry.get("decoded_token")), _log_prob(entry.get("logprob"))

    def _inputs(self, record: Record, response: Mapping[str, Any], choice: Mapping[str, Any]) -> list[int]:
        """The prompt's ids, of which a response usually says only how many they were."""
        given, request = _prompt_ids(response, choice), record.get("request") or {}
        backend = self.tokenizer.backend
        if given is None and isinstance(request.get("prompt"), list):
            given = request["prompt"]
        if given is not None:
            ids = [self.tokens.checked(token) for token in given]
        elif isinstance(request.get("prompt"), str):
            ids = backend(request["prompt"], verbose=False).input_ids
        elif request.get("messages") and backend.chat_template:
            try:
                text = backend.apply_chat_template(request["messages"], tokenize=False, add_generation_prompt=True)
            except Exception as error:  # templates are programs and raise what they like
                raise RowError(
                    f"Expected messages that fit the chat template. Got: {error!s:.80}. Drop the row."
                ) from None
            ids = backend(text, add_special_tokens=False, verbose=False).input_ids
        else:
            raise RowError(
                "Expected the prompt: prompt_token_ids in the response, or beside it a request with a prompt, or "
                "with messages for a tokenizer that has a chat template. Got none. Add it."
            )
        counted = (response.get("usage") or {}).get("prompt_tokens")
        if not ids or (counted is not None and counted != len(ids)):
            raise RowError(
                f"Expected a prompt of {counted} tokens, as the server counted. Got {len(ids)}. Use its tokenizer, "
                "or let it return ids (vLLM: return_token_ids)."
            )
        return list(ids)


_COMPLETION = ("tokens", "token_logprobs", "top_logprobs")


def _response(record: Record) -> Mapping[str, Any]:
    """The response in a record, which may be the record itself, or wrapped as the batch API does; else empty."""
    response = record.get("response", record)
    if isinstance(response, dict) and isinstance(response.get("body"), dict):
        response = response["body"]
    return response if isinstance(response, dict) else {}


def _choices(item: Located) -> Iterator[Located | Rejected]:
    response, request = _response(item.record), item.record.get("request")
    choices = response.get("choices")
    if (
        not isinstance(choices, list)
        or not all(isinstance(choice, dict) for choice in choices)
        or not isinstance(request, dict | None)
        or not isinstance(response.get("usage"), dict | None)
    ):
        yield Rejected(item.origin, "expected a response with choices, alone or beside its request")
        return
    shared = {key: response[key] for key in ("prompt_logprobs", "prompt_token_ids", "usage") if key in response}
    for index, choice in enumerate(choices):
        origin = item.origin if len(choices) == 1 else f"{item.origin}, choice {index}"
        yield Located({"request": request, "response": shared, "choice": choice}, origin)


def _chat_row(entry: object) -> tuple[Any, Any, dict[str, Any]]:
    values = _dict(entry, "an entry of logprobs.content")
    likeliest = [_dict(value, "top_logprobs") for value in _list(values.get("top_logprobs") or [], "top_logprobs")]
    by_text = {value["token"]: value.get("logprob") for value in likeliest if isinstance(value.get("token"), str)}
    if len(by_text) < len(likeliest):
        raise RowError("Expected different texts in top_logprobs. Got one twice. Let the server return ids.")
    return values.get("token"), values.get("logprob"), by_text


def _prompt_ids(response: Mapping[str, Any], choice: Mapping[str, Any]) -> list[Any] | None:
    given = choice.get("prompt_token_ids") or response.get("prompt_token_ids")
    return None if given is None else _list(given, "prompt_token_ids")


def _log_prob(value: object) -> float:
    if value == _MINUS_INFINITY:
        return -np.inf
    if isinstance(value, bool) or not isinstance(value, int | float) or not _MINUS_INFINITY < value <= _ROUNDING:
        raise RowError(f"Expected a log-probability from -9999 to 0. Got {value!r:.40}. Drop the row.")
    return min(float(value), 0.0)


def _list(value: object, what: str) -> list[Any]:
    if not isinstance(value, list) or len(value) > _MOST_TOKENS:
        raise RowError(f"Expected a list of at most {_MOST_TOKENS:,} under {what}. Got {value!r:.40}. Drop the row.")
    return value


def _dict(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RowError(f"Expected an object for {what}. Got {value!r:.40}. Ask for logprobs, or drop the row.")
    return value
