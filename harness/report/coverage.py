# SPDX-License-Identifier: GPL-2.0-only
"""`make coverage`: which lines and branches of the sample a run has executed.

Some of the kernel's objects count what is executed (Documentation/dev-tools/
gcov.rst); the counts are files of debugfs, read before a guest is ended, and
gcov(1) reads them by the notes that the compiler left.  What is not executed
has an explanation in kernel-patches/coverage.toml, or the check fails; so it
does for an explanation that explains nothing any more.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import tempfile
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from harness.channel import RefusedError
from harness.lab import Lab
from harness.target import Target
from vm import paths, proc
from vm.build import DESCRIBED, Built
from vm.errors import InfraError, UserError

#: Where gcov's counts are in the guest: kernel/gcov/fs.c.
GCOV = "/sys/kernel/debug/gcov"
#: Below the report directory: the counts of each guest, and the page.
COUNTS, PAGE = "gcov", "coverage.md"
#: Of gcov for one file, in seconds.
GCOV_SECONDS = 60.0


def table() -> Path:
    """Where the explanations are: in the checkout, or in the installed package."""
    places = (paths.VM.parent / "kernel-patches", paths.VM / "kernel_patches")
    return next((one for one in places if one.is_dir()), places[0]) / "coverage.toml"


def keep(lab: Lab, target: Target) -> None:
    """Write a guest's counts into the report directory, before it is ended."""
    objects = lab.built.record.get("objects")
    for name in DESCRIBED:
        stem = Path(name).stem
        if objects is None or not (lab.built.directory / f"{stem}.gcno").exists():
            continue
        try:
            data = target.read_file(f"{GCOV}{objects}/{Path(name).with_suffix('.gcda')}")
        except RefusedError as exc:
            raise InfraError(f"no counts of {name}: {exc}") from exc
        place = lab.setup.report / COUNTS / str(lab.boots)
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{stem}.gcda").write_bytes(data)


@dataclasses.dataclass(kw_only=True)
class Line:
    """One line that has code."""

    count: int = 0  #: how often it was executed
    branches: dict[int, int] = dataclasses.field(default_factory=dict)  #: how often each was taken
    function: str = ""

    @property
    def untaken(self) -> int:
        """Branches that were never taken, on a line that was executed."""
        return sum(not taken for taken in self.branches.values()) if self.count else 0


#: A source file's lines, by number.
Lines = dict[int, Line]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Explained:
    """A row of the table: what is not executed, and why that is no gap."""

    file: str
    function: str
    line: str  #: the source line, without the blanks around it
    why: str
    branches: int = 0  #: so many of an executed line's branches; 0: the line itself


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gap:
    """What was not executed."""

    file: str
    number: int
    function: str
    line: str
    branches: int  #: 0: the line itself

    def __str__(self) -> str:
        what = f"{self.branches} branch(es) never taken" if self.branches else "never executed"
        return f"{self.file}:{self.number}: {self.function}(): {what}: {self.line}"


def load(path: Path | None = None) -> list[Explained]:
    """The table of explanations.  InfraError when it, a part of this project, is damaged."""
    path = path or table()
    try:
        rows = tomllib.loads(path.read_text()).get("unexecuted", [])
        return [Explained(**row) for row in rows]
    except (OSError, tomllib.TOMLDecodeError, TypeError) as exc:
        raise InfraError(f"{path}: not a table of explanations: {exc}") from exc


def read(document: Mapping[str, object], found: dict[str, Lines], *, wanted: Iterable[str]) -> None:
    """Add what `gcov --json-format` says to what is known: counts of several guests add up."""
    for file in _rows(document, "files"):
        name = next((one for one in wanted if str(file["file"]).endswith(one)), None)
        if name is None:
            continue  # an inline function of a header's
        lines = found[name]
        for row in _rows(file, "lines"):
            line = lines.setdefault(int(str(row["line_number"])), Line())
            line.count += int(str(row["count"]))
            line.function = str(row.get("function_name", line.function))
            for index, branch in enumerate(_rows(row, "branches")):
                taken = line.branches.get(index, 0) + int(str(branch["count"]))
                line.branches[index] = taken


def _rows(holder: Mapping[str, object], name: str) -> list[dict[str, object]]:
    rows = holder.get(name, [])
    assert isinstance(rows, list)
    return rows


def measure(notes: Path, report: Path) -> dict[str, Lines]:
    """What all guests of a run have executed, by source file.

    ``notes`` is the directory of the compiler's notes, beside the kernel.
    Raises UserError when the run kept no counts, InfraError when gcov cannot read them.
    """
    found: dict[str, Lines] = defaultdict(dict)
    wanted = [str(Path(name).with_suffix(".c")) for name in DESCRIBED]
    counts = sorted((report / COUNTS).glob("*/*.gcda"))
    if not counts:
        raise UserError(f"{report / COUNTS}: no counts: no guest of a run with --coverage")
    for path in counts:
        with tempfile.TemporaryDirectory(prefix="extsys-gcov-") as name:
            place = Path(name)
            shutil.copyfile(notes / f"{path.stem}.gcno", place / f"{path.stem}.gcno")
            shutil.copyfile(path, place / path.name)
            argv = ["gcov", "--json-format", "--stdout", "--branch-probabilities", path.name]
            done = proc.run(argv, cwd=place, timeout=GCOV_SECONDS, quiet=True)
        for text in done.out.splitlines():
            if text.startswith("{"):
                read(json.loads(text), found, wanted=wanted)
    return found


def gaps(found: Mapping[str, Lines], sources: Path) -> list[Gap]:
    """Everything that was not executed; ``sources`` is the kernel's tree."""
    result = []
    for file, lines in sorted(found.items()):
        text = (sources / file).read_text().splitlines()
        for number, line in sorted(lines.items()):
            if line.count and not line.untaken:
                continue
            result.append(
                Gap(
                    file=file,
                    number=number,
                    function=line.function,
                    line=re.sub(r"\s+", " ", text[number - 1]).strip(),
                    branches=line.untaken,
                )
            )
    return result


def unexplained(
    found: Sequence[Gap], explained: Sequence[Explained]
) -> tuple[list[Gap], list[Explained]]:
    """The gaps that no row explains, and the rows that explain none."""

    def fits(gap: Gap, row: Explained) -> bool:
        return (gap.file, gap.function, gap.line, gap.branches) == (
            row.file,
            row.function,
            row.line,
            row.branches,
        )

    return (
        [gap for gap in found if not any(fits(gap, row) for row in explained)],
        [row for row in explained if not any(fits(gap, row) for gap in found)],
    )


def summary(found: Mapping[str, Lines]) -> list[str]:
    """A line for each file: how much of it was executed."""
    result = []
    for file, lines in sorted(found.items()):
        executed = sum(bool(line.count) for line in lines.values())
        branches = [taken for line in lines.values() for taken in line.branches.values()]
        result.append(
            f"{file}: {executed} of {len(lines)} lines executed, "
            f"{sum(map(bool, branches))} of {len(branches)} branches taken"
        )
    return result


def markdown(
    found: Mapping[str, Lines], missing: Sequence[Gap], explained: Sequence[Explained]
) -> str:
    """The page that a run leaves."""
    lines = ["# What the battery executes of the sample", ""]
    lines += [f"- {text}" for text in summary(found)]
    lines += ["", "## Not explained", ""]
    lines += [f"- {gap}" for gap in missing] or ["Nothing."]
    lines += ["", "## Not executed, and why", "", "| where | line | why |", "| --- | --- | --- |"]
    for row in explained:
        what = f" ({row.branches} branches)" if row.branches else ""
        lines.append(f"| {row.file}: {row.function}() | `{row.line}`{what} | {row.why} |")
    return "\n".join(lines) + "\n"


def report(built: Built, directory: Path) -> int:
    """Say what was executed and what was not; 1 when a gap is not explained, or is none."""
    found = measure(built.directory, directory)
    rows = load()
    missing, stale = unexplained(gaps(found, built.tree), rows)
    (directory / PAGE).write_text(markdown(found, missing, rows), encoding="utf-8")
    for text in summary(found):
        print(text)
    for gap in missing:
        print(f"not explained: {gap}")
    for row in stale:
        print(f"explained, and not a gap: {row.file}: {row.function}(): {row.line}")
    print(f"report: {directory / PAGE}")
    return 1 if missing or stale else 0
