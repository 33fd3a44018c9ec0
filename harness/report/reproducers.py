# SPDX-License-Identifier: GPL-2.0-only
"""A mismatch as a C program of its own: which kind of program shows it."""

from __future__ import annotations

from pathlib import Path

from harness.findings import Mismatch
from harness.interface import Interface
from harness.outside import Watch
from harness.report import repro, repro_layout, repro_outside, repro_snapshot
from harness.stall import Race, Stall


def write(
    interface: Interface, mismatch: Mismatch, directory: Path, *, prop: str, number: int
) -> Path | None:
    """Write the program into ``directory``, which is made; None where none can show it.

    ``prop`` is a key of PROPERTIES; ``number`` tells several of one property
    and ABI apart.
    """
    if mismatch.cause == "layout":
        return repro_layout.write(interface, directory, number=number)
    name = repro.file_name(interface, prop=prop, number=number)
    match mismatch.how:
        case Stall() | Race():
            text = repro_snapshot.render(interface, mismatch, prop=prop, name=name)
        case Watch():
            text = repro_outside.render(interface, mismatch, prop=prop, name=name)
        case _:
            text = repro.render(interface, mismatch, prop=prop, name=name)
    if text is None:
        return None
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    path.write_text(text, encoding="utf-8")
    return path
