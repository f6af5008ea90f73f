"""Assertions that a model proposes for a method and a test, with the model's own score of each.

Shape letters: N candidates, L tokens of all candidates; others as in `kdstore.encode.teacher`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch.nn.functional import cross_entropy

from kdeval.bounds import MAX_BEAMS, MAX_TOKENS
from kdeval.metrics.ast_validity import AstValidity
from kdeval.metrics.tree_sitter_validity import TreeSitterValidity
from kdeval.open_method import dedented, last_method
from kdeval.predict import load_model
from kdeval.text import assertion_kind, normalise_space
from kdstore.encode.teacher import Encoded, Teacher, weights_sha256
from kdstore.encode.tokenizer import Tokenizer, truncate_prompt
from kdstore.errors import ModelError, UsageError
from kdstore.store.files import Sha256
from kdstore.store.manifest import Limits
from kdstore.tasks import TASKS

BEAMS: Final = 5
"""Least width of a search without a width of its own."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Settings(_Record):
    """How candidates are found. ``num_beams`` None: as many as ``num``, at least `BEAMS`, and 1 for draws.

    With ``sample`` there are ``num`` draws; ``sampling_temperature``, ``top_p`` and ``seed`` are theirs.
    """

    num: int = Field(default=5, gt=0, le=MAX_BEAMS)
    num_beams: int | None = Field(default=None, gt=0, le=MAX_BEAMS)
    sample: bool = False
    sampling_temperature: float = Field(default=1.0, gt=0, le=100)
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: int = Field(default=0, ge=0, lt=1 << 63)
    max_input_tokens: int = Field(default=512, gt=1, le=MAX_TOKENS)
    max_output_tokens: int = Field(default=128, gt=1, le=MAX_TOKENS)
    valid_only: bool = False
    device: str = "auto"

    def resolved(self) -> "Settings":
        """The same with the width of the search.

        Raises
        ------
        UsageError
            Two settings exclude each other.
        """
        if self.sample and self.num_beams is not None:
            raise UsageError("Expected --num-beams or --sample. Got both. Leave one out.")
        if not self.sample and (self.sampling_temperature, self.top_p) != (1, 1):
            raise UsageError("Expected --sample with --sampling-temperature and --top-p. Got a search. Add --sample.")
        beams = self.num_beams or (1 if self.sample else max(self.num, BEAMS))
        if not self.sample and beams < self.num:
            raise UsageError(
                f"Expected at least as many beams as candidates. Got --num-beams {beams} and --num {self.num}. "
                "Raise the one or lower the other."
            )
        return self.model_copy(update={"num_beams": beams})


class Parses(_Record):
    """Which parser reads an assertion as the statements of a method body (see the metrics of these parsers)."""

    javalang: bool
    tree_sitter: bool


class Candidate(_Record):
    r"""One assertion, as the model wrote it.

    Attributes
    ----------
    log_prob
        :math:`\sum_t \log q(y_t \mid y_{<t}, x)` over its tokens y, the end token included, for the prompt x; at
        temperature 1 whatever it was drawn at.
    mean_log_prob
        The same divided by the number of tokens: the number that candidates are ranked by.
    probability
        :math:`e^{\text{log\_prob}}`, of the whole text in these tokens.
    tokens
        Their number.
    finished
        Whether there is an end token. If not, the text was cut at the longest length, and the numbers are of that
        much of it.
    kind
        See `kdeval.text.assertion_kind`.
    """

    rank: int
    assertion: str
    log_prob: float
    mean_log_prob: float
    probability: float
    tokens: int
    finished: bool
    parses: Parses
    kind: str


class PromptRecord(_Record):
    """What the model has read.

    Attributes
    ----------
    tokens, cut_tokens
        Read, and cut off on the left before that.
    without_focal
        Whether nothing of the focal method is left.
    test_method, test_lines
        The method of the test that was used, and its first and last line in the given text, from 1; None: no method
        can be made out, and the text was used as it is.
    test_in_part
        Whether something of the given text was left out, if only a closing brace.
    """

    tokens: int
    cut_tokens: int
    without_focal: bool
    test_method: str | None
    test_lines: tuple[int, int] | None
    test_in_part: bool


class Proposal(_Record):
    """Candidates by rank, and how they came about.

    Attributes
    ----------
    written
        Texts that the model wrote.
    repeated
        How many of them differ from a likelier one in nothing but white space, and were left out.
    invalid
        How many of the rest were left out as they do not parse.
    """

    model: str
    weights_sha256: Sha256
    settings: Settings
    prompt: PromptRecord
    written: int
    repeated: int
    invalid: int
    candidates: list[Candidate]


def propose(model_dir: Path, focal: str, test: str, settings: Settings) -> Proposal:
    """Propose assertions for the end of the last method in ``test``, which tests ``focal``.

    Candidates that differ in nothing but white space are one, with the numbers of the first by rank. The result
    depends on nothing but the arguments.

    Raises
    ------
    UsageError
        Settings exclude each other.
    RowError
        A text is empty.
    ModelError, MismatchError, CapabilityError
        The model, its tokenizer or the device cannot be used.
    TrainingError
        No process can be started in which generated Java is parsed.
    """
    settings = settings.resolved()
    model = load_model(model_dir, settings.device, settings.num)
    tokenizer = Tokenizer(model.name)
    model.check_vocabulary(len(tokenizer.backend))
    ids, prompt = _prompt(tokenizer, focal, test, settings)
    encoded = model.encode([ids])
    end = tokenizer.backend.eos_token_id
    _log_probs(model, encoded, [[end]])  # a damaged model is better told of than searched in
    written = _write(model, encoded, end, settings)
    distinct: dict[str, _Scored] = {}
    for scored in _ranked(model, tokenizer, encoded, written):
        distinct.setdefault(normalise_space(scored.text), scored)
    found = _candidates(list(distinct.values()), end)
    kept = [each for each in found if not settings.valid_only or (each.parses.javalang and each.parses.tree_sitter)]
    return Proposal(
        model=model.name,
        weights_sha256=weights_sha256(model.model),
        settings=settings.model_copy(update={"device": model.device.type}),
        prompt=prompt,
        written=len(written),
        repeated=len(written) - len(found),
        invalid=len(found) - len(kept),
        candidates=[each.model_copy(update={"rank": 1 + index}) for index, each in enumerate(kept[: settings.num])],
    )


def _prompt(tokenizer: Tokenizer, focal: str, test: str, settings: Settings) -> tuple[list[int], PromptRecord]:
    """The ids that the model reads, and what there is to say of them."""
    method = last_method(test)
    used = method.text if method else dedented(test)
    # A task wants a target; only its prompt is used.
    record = {"focal_method": dedented(focal), "test_method": used, "assertion": "?"}
    example = TASKS.get("java_assertion").example(record)
    ids, test_ids = tokenizer.ids([example.prompt, used])
    lengths = settings.model_dump(include={"max_input_tokens", "max_output_tokens"})
    kept = truncate_prompt(ids, Limits(**lengths, overlong="truncate"))
    return kept, PromptRecord(
        tokens=len(kept),
        cut_tokens=len(ids) - len(kept),
        without_focal=len(kept) < len(ids) and len(test_ids) >= len(kept),
        test_method=method.name if method else None,
        test_lines=method.lines if method else None,
        test_in_part=used != dedented(test),
    )


@torch.inference_mode()
def _write(model: Teacher, encoded: Encoded, end: int, settings: Settings) -> list[list[int]]:
    """The ids of each beam or draw, up to the end token where there is one."""
    drawn = {"temperature": settings.sampling_temperature, "top_p": settings.top_p, "top_k": 0}
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(settings.seed)
        ids_NT = model.model.generate(
            encoder_outputs=encoded.outputs(),
            attention_mask=encoded.mask_BS,
            max_new_tokens=settings.max_output_tokens,
            num_beams=settings.num_beams,
            num_return_sequences=settings.num if settings.sample else settings.num_beams,
            do_sample=settings.sample,
            eos_token_id=end,
            pad_token_id=model.pad_id,
            **(drawn if settings.sample else {}),
        )
    rows: list[list[int]] = ids_NT[:, 1:].tolist()  # without the token that starts the decoder
    return [row[: row.index(end) + 1] if end in row else row for row in rows]


@dataclass(frozen=True)
class _Scored:
    """What was written, and the sum of the log-probabilities of its tokens."""

    ids: list[int]
    text: str
    log_prob: float

    @property
    def mean(self) -> float:
        return self.log_prob / len(self.ids)


def _ranked(model: Teacher, tokenizer: Tokenizer, encoded: Encoded, written: Sequence[list[int]]) -> list[_Scored]:
    """What was written, the likeliest by its mean first; of equal ones the first."""
    log_probs = _log_probs(model, encoded, written)
    scored = [_Scored(ids, tokenizer.decode(ids), value) for ids, value in zip(written, log_probs, strict=True)]
    return sorted(scored, key=lambda each: -each.mean)


def _log_probs(model: Teacher, encoded: Encoded, labels: Sequence[list[int]]) -> list[float]:
    """The log-probability of each sequence of ids after the one prompt, teacher-forced."""
    sums: list[float] = []
    for part in model.slices(labels):
        rows = labels[part]
        prompts = Encoded(encoded.states_BSD.expand(len(rows), -1, -1), encoded.mask_BS.expand(len(rows), -1))
        logits_LV = model.score(prompts, rows).logits_LV
        ids_L = torch.tensor([token for row in rows for token in row], device=logits_LV.device)
        log_q_L = -cross_entropy(logits_LV, ids_L, reduction="none").cpu().double()
        if not torch.isfinite(log_q_L).all():
            raise ModelError(
                f"Expected finite logits from {model.name}. Got infinity or NaN. "
                "The weights are damaged or the training diverged; use an earlier checkpoint."
            )
        sums += [float(row_L.sum()) for row_L in torch.split(log_q_L, [len(row) for row in rows])]
    return sums


def _candidates(found: Sequence[_Scored], end: int) -> list[Candidate]:
    """What there is to say of each text, in their order."""
    texts = [each.text for each in found]
    parsed = zip(AstValidity().parse(texts), TreeSitterValidity().parse(texts), strict=True)
    return [
        Candidate(
            rank=1 + index,
            assertion=each.text,
            log_prob=each.log_prob,
            mean_log_prob=each.mean,
            probability=math.exp(each.log_prob),
            tokens=len(each.ids),
            finished=each.ids[-1] == end,
            parses=Parses(javalang=javalang, tree_sitter=tree_sitter),
            kind=assertion_kind(each.text),
        )
        for index, (each, (javalang, tree_sitter)) in enumerate(zip(found, parsed, strict=True))
    ]
