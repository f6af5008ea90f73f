"""Share of predictions that the JDK's parser accepts."""

from collections.abc import Sequence
from typing import Self

from kdeval.metrics import METRICS, Context
from kdeval.metrics._javac import Jdk, find_jdk
from kdeval.metrics._validity import Validity, as_source


@METRICS.register("javac_validity")
class JavacValidity(Validity):
    """1 when the parser of javac accepts the prediction as the statements of a method body, else 0.

    The parser is that of the JDK whose ``java`` is on PATH, for the language of its version without preview
    features. It reports no error, and the method's body ends at the brace after the prediction, so that
    ``} void g() {`` is 0. At least one statement is needed, so an empty prediction, or one of comments only, is 0
    whatever the reference; the reference is never looked at. Nothing is compiled or run: types and names are not
    resolved, and an assertion that parses may still not compile.

    Not parsed, and 0: texts of more than `MAX_CHARACTERS` or with an unpaired surrogate. A text on which the parser
    itself breaks is 0.

    >>> JavacValidity.create(Context()).parse(["assertEquals(1, f(x));", "assertEquals(1, ;"])
    [True, False]
    """

    name = "javac_validity"
    title = "Syntax validity, javac"

    def __init__(self, jdk: Jdk) -> None:
        self._jdk = jdk

    @classmethod
    def create(cls, context: Context) -> Self:
        """With the JDK of this machine.

        Raises
        ------
        CapabilityError
            There is none; see `find_jdk`.
        """
        return cls(find_jdk())

    @property
    def implementation(self) -> str:
        """The compiler and its version."""
        return f"jdk.compiler {self._jdk.version}"

    def parse(self, texts: Sequence[str]) -> list[bool]:
        """Whether javac's parser accepts each text.

        Raises
        ------
        CapabilityError
            The JDK does not answer; see `Jdk.parse`.
        """
        sources = {text: source for text in texts if (source := as_source(text)) is not None}
        accepted = dict(zip(sources, self._jdk.parse([*sources.values()]), strict=True))
        return [accepted.get(text, False) for text in texts]
