"""From the token strings of a server back to ids, where that can be done without guessing."""

import re
from collections.abc import Sequence

from kdstore.encode.tokenizer import Tokenizer
from kdstore.errors import RowError

_BY_ID = re.compile(r"token_id:(\d{1,8})")  # what vLLM writes under --return-tokens-as-token-ids


class TokenTable:
    """The text of every id of a tokenizer, and the id of every text that only one of them has."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._backend = tokenizer.backend
        self._texts: list[str] = self._backend.batch_decode([[token] for token in range(len(self._backend))])
        self._ids: dict[str, int | None] = {}
        for token, text in enumerate(self._texts):
            self._ids[text] = None if text in self._ids else token

    def id_of(self, text: object) -> int:
        """The only id with this text, or the N of ``token_id:N``.

        Raises
        ------
        RowError
            No id has it, or several have.
        """
        if not isinstance(text, str):
            raise RowError(f"Expected a token as text. Got {type(text).__name__}. Correct the row.")
        if match := _BY_ID.fullmatch(text):
            return self.checked(int(match[1]))
        token = self._ids.get(text)
        if token is None:
            what = "several ids have" if text in self._ids else "none has"
            raise RowError(
                f"Expected a token that stands for one id of the tokenizer. Got {text[:40]!r}, which {what}. Use the "
                "server's tokenizer, and let it return ids (vLLM: return_token_ids, return_tokens_as_token_ids)."
            )
        return token

    def checked(self, token: object, text: object = None) -> int:
        """An id that the tokenizer has, and whose text is ``text`` where that is given.

        Raises
        ------
        RowError
            It has no such id, or another text for it.
        """
        if type(token) is not int or not 0 <= token < len(self._texts):
            raise RowError(
                f"Expected an id below {len(self._texts):,}. Got {token!r:.40}. Use the server's tokenizer."
            )
        if isinstance(text, str) and text != self._texts[token] and not _BY_ID.fullmatch(text):
            raise RowError(
                f"Expected {self._texts[token][:40]!r}, the tokenizer's text of id {token}. Got {text[:40]!r}. "
                "Use the server's tokenizer."
            )
        return token

    def check_round_trip(self, ids: Sequence[int], text: str) -> None:
        """Raise `RowError` when ids do not give back their text."""
        found = self._backend.decode(ids)
        if found != text:
            at = next(
                (i for i, (a, b) in enumerate(zip(found, text, strict=False)) if a != b), min(len(found), len(text))
            )
            raise RowError(
                f"Expected tokens that give back the text {text[at : at + 40]!r} at character {at}. "
                f"Got {found[at : at + 40]!r}. Use the server's tokenizer."
            )
