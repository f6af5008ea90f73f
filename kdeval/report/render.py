"""Write a report as one HTML page and as Markdown."""

import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from kdeval.report.chart import line_chart, reliability_chart, series_chart, swatch, tradeoff_chart
from kdeval.report.gather import Report
from kdeval.report.strip import strip_chart
from kdeval.report.wording import brief_hash, ends, number, sentence

_MARKDOWN = ".md.jinja"


def to_html(report: Report) -> str:
    """A page that needs no other file, no script and no network; every text from outside is escaped."""
    return _utf8(_environment().get_template("page.html.jinja").render(report=report))


def to_markdown(report: Report) -> str:
    """The same content for a terminal or a repository, without the charts."""
    return _utf8(_environment().get_template(f"page{_MARKDOWN}").render(report=report))


def _utf8(text: str) -> str:
    """Text with ``?`` for what UTF-8 cannot hold: half characters in a JSON file or in the name of a path."""
    return text.encode(errors="replace").decode()


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=lambda name: not (name or "").endswith(_MARKDOWN),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "chart": line_chart,
        "series": series_chart,
        "swatch": swatch,
        "tradeoff": tradeoff_chart,
        "reliability": reliability_chart,
        "strip": strip_chart,
        "number": number,
        "ends": ends,
        "capitalise": sentence,
        "brief": _brief,
        "fence": _fence,
        "cell": _cell,
    }
    return environment


def _brief(text: str) -> str:
    """The beginning of a checksum; other texts as they are."""
    return brief_hash(text) if re.fullmatch("[0-9a-f]{64}", text) else text


def _fence(text: str) -> str:
    """A Markdown code block, with more backticks around it than the text has in a row."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def _cell(text: str) -> str:
    """Text for a Markdown table or line: one line, with nothing that Markdown or HTML would act on."""
    return re.sub(r"([\\`*_{}\[\]<>#|~!&])", r"\\\1", " ".join(text.split()))
