"""The database of critical words: read from TOML and checked; `kdtrain.tokens` finds them in labels."""

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, StringConstraints, field_validator, model_validator

from kdstore.errors import UsageError, first_line
from kdstore.validation import parse

LONGEST_SIGN = 3
LINKS = "_$@"
_LONGEST_WORD = 64
_SPREAD = "\ufffd"  # what a part of a character is decoded to

Word = Annotated[str, StringConstraints(pattern=r"^\S+$", max_length=_LONGEST_WORD)]


class Category(BaseModel):
    """Words of one kind."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    description: Annotated[str, StringConstraints(pattern=r"^\S.*$")]
    words: tuple[Word, ...]

    @field_validator("words")
    @classmethod
    def _check_words(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        for word in words:
            letters = sum(map(is_identifier, word))
            if letters != len(word) and (letters or len(word) > LONGEST_SIGN):
                raise ValueError(f"{word!r} is neither an identifier nor up to {LONGEST_SIGN} other characters")
        return words


class Database(BaseModel):
    """The critical words, by category."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    junit: Category
    testng: Category
    mocking: Category
    logical: Category
    exceptions: Category
    collections: Category
    strings: Category
    numerics: Category
    structure: Category
    life_cycle: Category
    domain: Category

    @model_validator(mode="after")
    def _check_unique(self) -> Self:
        seen: dict[str, str] = {}
        for name, category in self.categories.items():
            for word in category.words:
                if word in seen:
                    raise ValueError(f"{word!r} stands in {seen[word]} and in {name}")
                seen[word] = name
        return self

    @property
    def categories(self) -> dict[str, Category]:
        """The categories by name."""
        return dict(self)

    @property
    def words(self) -> tuple[str, ...]:
        """All words, category by category."""
        return tuple(word for category in self.categories.values() for word in category.words)


def read_database(path: Path | None = None) -> Database:
    """The words in a TOML file, by default those of this package.

    Raises
    ------
    UsageError
        The file is not valid TOML, or its words break a rule; the first problem is named.
    """
    source = path or files("kdtrain").joinpath("critical_tokens.toml")
    try:
        content = tomllib.loads(source.read_bytes().decode())
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, UnicodeDecodeError; nested thousands deep
        raise UsageError(f"Expected valid TOML in {source}. Got: {first_line(error)}.") from None
    return parse(Database, content, f"critical words in {source}")


def is_identifier(letter: str) -> bool:
    """Whether a character belongs to identifiers, as `kdtrain.tokens` has it."""
    return letter.isalnum() or letter in LINKS or letter == _SPREAD
