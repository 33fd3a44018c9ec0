# SPDX-License-Identifier: GPL-2.0-only
"""Old and new programs on old and new kernels: each cell of the matrix is a test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.skew import matrix

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.skew.labs import SkewLab
    from harness.skew.matrix import Cell


def test_cell(skew_cell: Cell, skew_lab: SkewLab, shows: Callable[[str], None]) -> None:
    """A program of one release, with all its sizes, on a kernel of another."""
    if skew_lab.age.off:
        matrix.check_absent(skew_cell)
        shows("ENOSYS")
    else:
        matrix.check(skew_cell)
        shows(skew_cell.shows)


def test_the_same_calls(skew_record: int, shows: Callable[[str], None]) -> None:
    """The calls that every kernel is given; what differs is judged when all kernels had them."""
    assert skew_record > 0
    shows("recorded")
