# SPDX-License-Identifier: GPL-2.0-only
"""Seconds over calls, as a picture: an SVG with the straight line through the last point."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jinja2

HERE = Path(__file__).resolve().parent
#: Of the picture, and of the space around the plot, in pixels.
WIDTH, HEIGHT, MARGIN = 640, 400, 60


def svg(points: Sequence[tuple[int, float]], title: str) -> str:
    """A plot of (calls, seconds), the largest last.

    A cost that is linear in calls has its points on the line from the origin.
    """
    most_calls, most_seconds = points[-1]

    def place(calls: float, seconds: float) -> tuple[str, str]:
        x = MARGIN + calls / most_calls * (WIDTH - 2 * MARGIN)
        y = HEIGHT - MARGIN - seconds / most_seconds * (HEIGHT - 2 * MARGIN)
        return f"{x:.1f}", f"{y:.1f}"

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("plot.svg.j2").render(
        width=WIDTH,
        height=HEIGHT,
        margin=MARGIN,
        title=title,
        calls=f"{most_calls:,} calls",
        seconds=f"{most_seconds:.2f} s",
        line=[place(0, 0), place(most_calls, most_seconds)],
        points=[place(*point) for point in points],
    )
