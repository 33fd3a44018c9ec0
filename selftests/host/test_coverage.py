# SPDX-License-Identifier: GPL-2.0-only
"""harness.report.coverage: what was executed, what was not, and what explains it."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import pytest

from harness.report import coverage
from harness.report.coverage import Explained, Gap, Line
from vm.errors import InfraError, UserError

FILE = "kernel/xyzzy.c"
SOURCE = """\
int seldom(int value)
{
	if (value > 1)
		return 2;
	return 3;
}

static int never(int value)
{
	return value
		+ 1;
}

int main(int argc, char **argv)
{
	(void)argv;
	return argc > 5 ? never(argc) : seldom(argc) - 3;
}
"""


@pytest.fixture(name="place")
def _place(tmp_path: Path) -> Path:
    """A program that was compiled as the kernel's objects are, and run once."""
    objects = tmp_path / "objects"
    objects.mkdir()
    (tmp_path / "kernel").mkdir()
    (tmp_path / FILE).write_text(SOURCE)
    argv = ["gcc", "-O0", "-fprofile-arcs", "-ftest-coverage", str(tmp_path / FILE)]
    subprocess.run([*argv, "-c", "-o", "xyzzy.o"], cwd=objects, check=True)
    subprocess.run(["gcc", "--coverage", "xyzzy.o", "-o", "run"], cwd=objects, check=True)
    for number in ("1", "2"):  # each guest has counts of its own
        subprocess.run(["./run"], cwd=objects, check=True)
        kept = tmp_path / "report" / coverage.COUNTS / number
        kept.mkdir(parents=True)
        (objects / "xyzzy.gcda").rename(kept / "xyzzy.gcda")
    return tmp_path


def gap(number: int, function: str, line: str, branches: int = 0) -> Gap:
    return Gap(file=FILE, number=number, function=function, line=line, branches=branches)


GAPS = [
    gap(3, "seldom", "if (value > 1)", 1),
    gap(4, "seldom", "return 2;"),
    gap(8, "never", "static int never(int value)"),
    gap(11, "never", "+ 1;"),
    gap(17, "main", "return argc > 5 ? never(argc) : seldom(argc) - 3;", 1),
]


def test_counts_of_all_guests(place: Path) -> None:
    found = coverage.measure(place / "objects", place / "report")
    assert list(found) == [FILE]
    assert found[FILE][5].count == 2
    assert coverage.gaps(found, place) == GAPS
    assert coverage.summary(found) == [f"{FILE}: 5 of 8 lines executed, 2 of 4 branches taken"]


def test_a_run_without_counts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no counts"):
        coverage.measure(tmp_path, tmp_path)


def explained(one: Gap) -> Explained:
    return Explained(
        file=one.file, function=one.function, line=one.line, branches=one.branches, why="because"
    )


def test_each_gap_is_explained_or_reported() -> None:
    rows = [explained(one) for one in GAPS]
    assert coverage.unexplained(GAPS, rows) == ([], [])
    assert coverage.unexplained(GAPS, rows[1:]) == ([GAPS[0]], [])
    # What is executed now needs no explanation.
    assert coverage.unexplained(GAPS[1:], rows) == ([], [rows[0]])
    # One more branch is another gap.
    more = dataclasses.replace(GAPS[0], branches=2)
    assert coverage.unexplained([more], rows[:1]) == ([more], rows[:1])


def test_a_line_that_is_not_executed_has_no_branches_to_explain() -> None:
    assert Line(count=0, branches={0: 0, 1: 0}).untaken == 0
    assert Line(count=1, branches={0: 0, 1: 1}).untaken == 1


def test_the_page() -> None:
    found = {FILE: {3: Line(count=1, branches={0: 1, 1: 0})}}
    page = coverage.markdown(found, [GAPS[0]], [explained(GAPS[1])])
    assert f"- {FILE}: 1 of 1 lines executed, 1 of 2 branches taken" in page
    assert f"- {FILE}:3: seldom(): 1 branch(es) never taken: if (value > 1)" in page
    assert f"| {FILE}: seldom() | `return 2;` | because |" in page
    assert "\nNothing.\n" in coverage.markdown(found, [], [])


def test_the_table(tmp_path: Path) -> None:
    assert all(row.why for row in coverage.load())
    assert coverage.table().is_file()
    bad = tmp_path / "coverage.toml"
    bad.write_text("[[unexecuted]]\nfile = 'x'\n")
    with pytest.raises(InfraError, match="not a table of explanations"):
        coverage.load(bad)
