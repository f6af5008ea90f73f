"""Draw fidelity against bytes: the angle at each temperature, one line per codec."""

from collections.abc import Mapping, Sequence
from itertools import cycle, groupby
from pathlib import Path
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from kdstore.fidelity.measure import TEMPERATURES
from kdstore.store.manifest import Fidelity

SIZE: Final = (10.0, 4.4)  # inches
DPI: Final = 160

# Okabe and Ito's colours, told apart by colour-blind readers; markers and dashes tell them apart in grey print.
_STYLES = (
    {"color": "#0072B2", "marker": "o", "ls": "-"}, {"color": "#D55E00", "marker": "s", "ls": "--"},
    {"color": "#009E73", "marker": "^", "ls": "-."}, {"color": "#CC79A7", "marker": "D", "ls": ":"},
    {"color": "#56B4E9", "marker": "v", "ls": "-"}, {"color": "#E69F00", "marker": "P", "ls": "--"},
    {"color": "#000000", "marker": "X", "ls": "-."},
)  # fmt: skip
_LEAST = 0.03  # degrees; what is truer than that is drawn there
_DEGREES = (0.1, 0.3, 1, 3, 10, 30, 90)
_WIDE = 300  # times as many bytes: only powers of ten have room below the axis
_LIMIT = 10.0  # degrees, the default of kdtrain's --max-angle
_INK, _MUTED, _FAINT = "#222222", "#6b6b6b", "#dddddd"
_RING: Final[dict[str, Any]] = {"marker": "o", "mfc": "none", "mec": _INK, "ms": 12, "mew": 1.3}

Settings = tuple[str, Mapping[str, Any]]
"""A codec by name, with its settings."""


def draw(
    records: Sequence[Fidelity],
    path: Path,
    chosen: Settings | None,
    what: str,
    target_angle: float | None = None,
) -> None:
    """Write a PNG of `SIZE` with a panel per temperature; both axes are logarithmic.

    Parameters
    ----------
    records
        At least one, all at the gradients of one student. Those of the first one's loss are drawn.
    path
        Where the picture goes.
    chosen, what
        Codec and settings to mark, and what they are: "stored".
    target_angle
        In degrees, drawn as a line beside the one from which `kdtrain` refuses a store.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    drawn = [record for record in records if record.divergence == records[0].divergence]
    styles = dict(zip(sorted({record.codec for record in drawn}), cycle(_STYLES), strict=False))
    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels: Sequence[Axes] = figure.subplots(1, len(TEMPERATURES), sharex=True, sharey=True)
    sizes = [record.bytes_per_token for record in drawn]
    wide = max(sizes) > _WIDE * min(sizes)
    levels = {_LIMIT: "kdtrain's limit"} | ({target_angle: "target"} if target_angle else {})
    for panel, temperature in zip(panels, TEMPERATURES, strict=True):
        _axes(panel, f"T = {temperature:g}", levels, wide)
        _series(panel, [record for record in drawn if record.temperature == temperature], styles, chosen)
    panels[0].set_ylabel(f"degrees from the full teacher's {drawn[0].divergence} gradient")
    panels[1].set_xlabel("signal bytes per label token")
    # Not every codec serves every temperature: the legend is made from all panels.
    lines = {line.get_label(): line for panel in panels for line in panel.get_lines() if line.get_label() in styles}
    handles = [lines[codec] for codec in styles]
    if chosen:
        handles.append(Line2D([], [], label=what, ls="none", **_RING))
    figure.legend(handles=handles, loc="outside upper center", ncols=8, frameon=False)
    figure.supxlabel(drawn[0].basis, fontsize=7.5, color=_MUTED)
    figure.savefig(path, format="png")


def _series(
    panel: Axes, records: Sequence[Fidelity], styles: Mapping[str, dict[str, Any]], chosen: Settings | None
) -> None:
    by_codec = groupby(sorted(records, key=lambda r: (r.codec, r.bytes_per_token)), key=lambda r: r.codec)
    for codec, group in by_codec:
        points = [_point(record) for record in group]
        panel.plot(*zip(*points, strict=True), label=codec, lw=1.5, ms=6, mec="white", mew=0.7, **styles[codec])
    for record in records:
        if (record.codec, record.settings) == chosen:
            panel.plot(*_point(record), zorder=4, **_RING)


def _point(record: Fidelity) -> tuple[float, float]:
    return record.bytes_per_token, max(_LEAST, record.angle_deg)


def _axes(panel: Axes, title: str, levels: Mapping[float, str], wide: bool) -> None:
    panel.set_title(title, fontsize=11, color=_INK)
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_yticks(_DEGREES)
    plain = FuncFormatter(lambda value, place: f"{value:,g}")
    panel.yaxis.set_major_formatter(plain)
    panel.xaxis.set_major_locator(LogLocator(subs=(1,) if wide else (1, 2, 5)))
    panel.xaxis.set_major_formatter(plain)
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_minor_locator(NullLocator())
    panel.grid(which="major", color=_FAINT, lw=0.6)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=9, colors=_INK, which="both")
    for degrees, name in levels.items():
        panel.axhline(degrees, color=_MUTED, lw=1, ls=(0, (4, 3)), zorder=1)
        panel.annotate(
            f"{name} {degrees:g}", (1, degrees), (0, 2), xycoords=("axes fraction", "data"),
            textcoords="offset points", ha="right", fontsize=7, color=_MUTED,
        )  # fmt: skip
