# SPDX-License-Identifier: GPL-2.0-only
"""Progress of long work: what, how far, how long.

On a terminal it is one live line (rich); in a pipe, plain lines: one when a
step begins, one when it ends, and one every `EVERY` seconds between.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

#: Seconds between two plain lines of one step.
EVERY = 15.0


class Step(Protocol):
    """What a step's body is given to say how far it is."""

    def at(self, done: int, total: int | None = None, note: str = "") -> None:
        """``done`` of ``total`` units; ``note`` names the unit at hand."""


class _Plain:
    def __init__(self, title: str) -> None:
        self._title = title
        self._start = time.monotonic()
        self._last = self._start

    def at(self, done: int, total: int | None = None, note: str = "") -> None:
        now = time.monotonic()
        if now - self._last < EVERY:
            return
        self._last = now
        far = f"{done}/{total}" if total else str(done)
        _line(f"  {self._title}: {far} {note} ({now - self._start:.0f} s)")


class _Rich:
    def __init__(self, bar: Progress, title: str) -> None:
        self._bar = bar
        self._task = bar.add_task(title, total=None, note="")

    def at(self, done: int, total: int | None = None, note: str = "") -> None:
        self._bar.update(self._task, completed=done, total=total, note=note[-40:])


def _line(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def step(title: str) -> Iterator[Step]:
    """Show that ``title`` is under way until the block ends; say how long."""
    start = time.monotonic()
    if sys.stderr.isatty():
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.completed:g}"),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            yield _Rich(bar, title)
    else:
        _line(f"* {title} ...")
        yield _Plain(title)
    _line(f"* {title}: done ({time.monotonic() - start:.1f} s)")
