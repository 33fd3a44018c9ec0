# SPDX-License-Identifier: GPL-2.0-only
"""One of the kernel's own selftests on the guest, and what has to be said about its results."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from harness.abi import ABI
from harness.contract import Contract
from harness.kselftests import table
from harness.kselftests.table import Check, Program
from harness.lab import Lab
from harness.report import ktap
from harness.report.ktap import Case
from vm import guestroot, kselftest
from vm.errors import InfraError
from vm.kernels import Version
from vm.kselftest import Programs
from vm.paths import VM

#: How often a program is run whose failures may be a busy machine's.
TIMES = 3
#: Of the programs, below the guest's root; a name that the guest never looked up before.
WHERE = "kselftests"
#: What runs them.
STAGE = "stage"
STAGE_SOURCE = VM / "guest" / "stage.c"
#: What that says when there is no stage to run on, or no program on it.
NO_STAGE = (126, 127)
#: Below the report's directory: what each printed.
REPORT = "kselftests"
#: A mount point that the root has not.
MOUNT_POINT = "mnt"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judged:
    """One result of theirs."""

    case: Case
    check: Check | None  #: the row that knows it
    expected: str | None = None  #: why it is not ok, where that is known

    @property
    def passed(self) -> bool:
        return self.case.ok and self.case.skip is None


def _whole(report: Path) -> Path:
    """The report of the whole run, of which a worker of pytest-xdist has a part."""
    return report.parent if re.fullmatch(r"gw\d+", report.name) else report


def report_of(report: Path, program: Program, abi: str) -> Path:
    """Where a program's output of a run is kept."""
    return report / REPORT / f"{program.name}-{abi}.ktap"


def build(lab: Lab, abi: ABI, target: str) -> Programs:
    """The programs of a directory that the table has, for one ABI, from the kernel's own tree."""
    programs = table.targets(table.load().programs)[target]
    return kselftest.build_for(
        target,
        [one.name for one in programs],
        cflag=abi.cflag,
        tree=lab.built.tree,
        headers=lab.built.headers,
        cache=lab.setup.cache,
    )


def install(lab: Lab, abi: ABI, name: str, path: Path) -> tuple[str, str]:
    """Put a program where the guest sees it; the paths of the stage and of it there."""
    home = lab.root / WHERE
    stage = home / STAGE
    if not stage.exists():
        home.mkdir(exist_ok=True)
        (lab.root / MOUNT_POINT).mkdir(exist_ok=True)
        guestroot.compile_program(STAGE_SOURCE, stage)
    program = home / abi.name / name
    program.parent.mkdir(exist_ok=True)
    shutil.copy2(path, program)
    return f"/{WHERE}/{STAGE}", f"/{WHERE}/{abi.name}/{name}"


def run(lab: Lab, abi: ABI, program: Program, path: Path) -> list[Case]:
    """Run a program and keep what it printed; its results, what is wrong with them among these.

    Raises InfraError when it could not be run at all.
    """
    stage, inside = install(lab, abi, program.name, path)
    ran = lab.target().execute([stage, inside, *program.args], seconds=program.seconds)
    kept = report_of(_whole(lab.setup.report), program, abi.name)
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(ran.output, errors="backslashreplace")
    if ran.code in NO_STAGE and not ktap.parse(ran.output).cases:
        raise InfraError(f"{program.name} as {abi.name} was not run: {ran.output.strip()}")
    return cases(ran.output, code=ran.code)


def cases(output: str, *, code: int | None = None) -> list[Case]:
    """The results in an output; what is wrong with its format is a result that is not ok."""
    parsed = ktap.parse(output)
    # A program that forks with results in its buffer prints them twice.
    found = list({(one.number, one.name, one.ok): one for one in parsed.cases}.values())
    wrong = [f"KTAP: {problem}" for problem in parsed.problems]
    if code and not parsed.failed and not wrong:
        wrong.append(f"exit code {code}, and nothing failed")
    return found + [Case(number=0, name=text, ok=False) for text in wrong]


def judge(found: list[Case], *, program: str, abi: str, version: Version) -> list[Judged]:
    """Each result, with the row that knows it and the reason for which it is not ok."""
    tests = table.load()
    return [
        Judged(
            case=case,
            check=tests.check(program, case) if case.number else None,
            expected=None
            if case.ok
            else tests.expected(case, program=program, abi=abi, version=version),
        )
        for case in found
    ]


def problems(judged: list[Judged], *, contract: Contract, abi: ABI) -> list[str]:
    """What fails a run: a check of theirs that fails, or that nobody knows, or that we lack."""
    found = []
    for one in judged:
        name = one.case.name
        if not one.case.ok and one.expected is None:
            found.append(f"theirs fails: {name}: {' / '.join(one.case.lines[-5:])}")
        if one.case.number and one.case.skip is None and one.check is None:
            found.append(f"theirs, and not in {table.TABLE.name}: {name}")
        if one.passed and one.check:
            lack = one.check.uncovered(contract, abi)
            if lack:
                found.append(f"only theirs: {name}: {lack}")
    return found


def read(report: Path, abis: Iterable[str], version: Version) -> dict[str, dict[str, list[Judged]]]:
    """Program → ABI → results, of what a run has kept."""
    found: dict[str, dict[str, list[Judged]]] = {}
    names = list(abis)
    for program in table.load().programs:
        for name in names:
            path = report_of(report, program, name)
            if path.is_file():
                found.setdefault(program.name, {})[name] = judge(
                    cases(path.read_text(errors="replace")),
                    program=program.name,
                    abi=name,
                    version=version,
                )
    return found
