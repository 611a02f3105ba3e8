"""The figures as a picture: a bar for each runner, a group for each shape, on a logarithmic axis.

Plain SVG: a plotting library would be ten packages and 60 MB for everybody who runs the demo.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby
from math import log10
from pathlib import Path
from xml.sax.saxutils import escape

from workbench.bench.figure import Figure
from workbench.bench.shapes import OURS, SHAPES

_LEFT, _BAR, _ROW, _DECADE = 190, 16, 22, 100  # pixels; a decade of records a second is 100 wide
_FIRST, _LAST = 1, 6  # decades shown: 10 to 1,000,000 records a second


def draw(found: Iterable[Figure], path: Path) -> None:
    """Write the picture as SVG; shapes without a rate are left out."""
    parts, y = [], 10
    shown = (figure for figure in found if figure.rate)
    for name, group in groupby(shown, lambda figure: figure.shape):
        parts.append(_text(_LEFT, y + 14, SHAPES[name].title, "bold"))
        y += _ROW
        for figure in group:
            parts += _bar(figure, y)
            y += _ROW
        y += _ROW // 2
    parts += _axis(y)
    width, height = _x(10**_LAST) + 60, y + 2 * _ROW
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" font-family="sans-serif">'
    path.write_text("\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>"]) + "\n")


def _x(rate: float) -> float:
    return _LEFT + _DECADE * max(log10(rate) - _FIRST, 0.01)


def _bar(figure: Figure, y: int) -> Iterator[str]:
    colour = "#1f6f54" if figure.runner.startswith(OURS) else "#a8b3ba"
    yield _text(_LEFT - 8, y + 13, figure.runner, anchor="end")
    end = _x(figure.rate)
    yield f'<rect x="{_LEFT}" y="{y}" width="{end - _LEFT:.1f}" height="{_BAR}" fill="{colour}"/>'
    yield _text(end + 6, y + 13, f"{figure.rate:,.0f}")


def _axis(y: int) -> Iterator[str]:
    for decade in range(_FIRST, _LAST + 1):
        x = _x(10**decade)
        yield f'<line x1="{x:.0f}" x2="{x:.0f}" y1="10" y2="{y}" stroke="black" stroke-opacity="0.12"/>'
        yield _text(x, y + 14, f"{10**decade:,}", anchor="middle")
    yield _text(_LEFT, y + 34, "records a second, median of the runs")


def _text(x: float, y: float, words: str, weight: str = "normal", anchor: str = "start") -> str:
    style = f'font-size="12" font-weight="{weight}" text-anchor="{anchor}"'
    return f'<text x="{x:.0f}" y="{y:.0f}" {style}>{escape(words)}</text>'
