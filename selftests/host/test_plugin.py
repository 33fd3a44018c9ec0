# SPDX-License-Identifier: GPL-2.0-only
"""harness.plugin: options, verdicts and reports of whole pytest runs, each a process of its own.

No guest is booted: the tests of these runs raise what a guest's end would raise.
"""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import sys
import textwrap
import traceback
from importlib.metadata import entry_points
from pathlib import Path
from typing import NoReturn

import pytest

from harness.report import ktap
from harness.report import results as records
from vm.errors import Verdict

pytest_plugins = ["pytester"]

#: Where the package is installed its entry point loads the plugin; else it is named here.
INSTALLED = any(entry.value == "harness.plugin" for entry in entry_points(group="pytest11"))
LOAD = () if INSTALLED else ("-p", "harness.plugin")
#: Of no use in these runs; hypothesis takes half a second to be imported.
LEAN = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ran:
    """A run that ended."""

    code: int
    text: str  #: stdout and stderr
    report: Path

    @property
    def cases(self) -> dict[str, ktap.Case]:
        """What results.ktap says, by the test's name."""
        parsed = ktap.parse((self.report / "results.ktap").read_text())
        assert parsed.problems == ()
        return {case.name.rpartition("::")[2]: case for case in parsed.cases}


@pytest.fixture(name="run")
def _run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("EXTSYS_CACHE", str(pytester.path / "cache"))
    return Run(pytester, monkeypatch)


class Run:
    """Run pytest over a file of tests."""

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pytester = pytester
        self.monkeypatch = monkeypatch

    def __call__(self, tests: str, *args: str, ci: bool = False) -> Ran:
        if ci:
            self.monkeypatch.setenv("CI", "1")
        self.pytester.makepyfile(
            "import os, signal, time\n"
            "import pytest\n"
            "from harness.channel import CallerGoneError\n"
            "from vm.errors import *\n" + textwrap.dedent(tests)
        )
        argv = [*LOAD, *LEAN, "--local", "--report", "out", *args]
        output = self.pytester.path / "output"
        pid = os.fork()
        if not pid:
            _child(argv, output)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        text = output.read_text(encoding="utf-8", errors="replace")
        return Ran(code=code, text=text, report=self.pytester.path / "out")


def _child(argv: list[str], output: Path) -> NoReturn:
    """Run pytest in a process that has imported all of it already, which is most of the time."""
    code = 125
    try:
        fd = os.open(output, os.O_CREAT | os.O_WRONLY, 0o600)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(fd, number)
            text = os.fdopen(number, "w", errors="backslashreplace", closefd=False)
            setattr(sys, name, text)
        os.chdir(output.parent)
        signal.alarm(240)  # workers of their own take their time on a loaded machine
        code = int(pytest.main(argv))
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def test_a_run_that_passes(run: Run) -> None:
    """Each ABI once, results by property and ABI, and nothing of a guest."""
    ran = run(
        """
        @pytest.mark.prop("P1")
        def test_each(abi, record_property):
            record_property("calls", 12)
            assert abi.name in ("m64", "m32", "mx32")

        def test_plain():
            pass

        @pytest.mark.prop("P14")
        @pytest.mark.skipif(True, reason="not [here]")
        def test_skipped(abi):
            pass
        """
    )
    assert ran.code == 0, ran.text
    assert set(ran.cases) == {
        *("test_each[m64]", "test_each[m32]", "test_each[mx32]", "test_plain"),
        *("test_skipped[m64]", "test_skipped[m32]", "test_skipped[mx32]"),
    }
    assert all(case.ok for case in ran.cases.values())
    assert ran.cases["test_skipped[m32]"].skip == "Skipped: not [here]"
    summary = (ran.report / "summary.md").read_text()
    assert "| P1 size lattice | 12 calls | 12 calls | 12 calls |" in summary
    assert "| P14 layout | skipped | skipped | skipped |" in summary
    assert "| m64 | 1 | 0 | 1 |" in summary
    assert "m64: 1 passed, 0 failed, 1 skipped; m32: 1 passed" in ran.text
    assert re.search(r"P1 size lattice\s*\S\s*12 calls\s*\S\s*12 calls\s*\S\s*12 calls", ran.text)
    assert f"report: {ran.report}" in ran.text


def test_abis_are_chosen(run: Run) -> None:
    """By several options and by commas; one comma too many is no mistake."""
    ran = run("def test_each(abi): pass", "--abi", "mx32,m64,", "--abi", "m64")
    assert ran.code == 0
    assert list(ran.cases) == ["test_each[mx32]", "test_each[m64]"]


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (("--abi", "m16"), "ERROR: unknown ABI 'm16'"),
        (("--contract", "no-such-thing"), "ERROR: "),
    ],
)
def test_a_wrong_option_is_one_line_and_pytest_s_usage_error(
    run: Run, args: tuple[str, ...], line: str
) -> None:
    ran = run("def test_each(abi): pass", *args)
    assert ran.code == 4, "pytest.ExitCode.USAGE_ERROR"
    assert ran.text.lstrip().startswith(line)
    assert "Traceback" not in ran.text
    assert len(ran.text.strip().splitlines()) <= 2, "the mistake, and a hint"
    assert not ran.report.exists()


@pytest.mark.parametrize(
    ("marker", "words"),
    [
        ('@pytest.mark.prop("P99")', "unknown property 'P99'"),
        ("@pytest.mark.prop", "unknown property"),
    ],
)
def test_an_unknown_property_is_a_usage_error(run: Run, marker: str, words: str) -> None:
    ran = run(f"{marker}\ndef test_it(abi): pass")
    assert ran.code == pytest.ExitCode.USAGE_ERROR
    assert words in ran.text
    assert "INTERNALERROR" not in ran.text


def test_what_the_kernel_reports_is_a_property_of_its_own(run: Run) -> None:
    """Found behind a test that passed it is P23's; the guest is kept, and tests go on."""
    ran = run(
        """
        from harness.plugin import LAB
        from harness.splats import SplatError

        @pytest.fixture
        def watched():
            yield
            raise SplatError("a report", verdict=Verdict.OOPS)

        @pytest.mark.prop("P1")
        def test_passes(abi, watched):
            pass

        @pytest.mark.prop("P3")
        def test_fails(abi, watched):
            assert 1 == 2

        @pytest.mark.prop("P5")
        def test_later(abi, request):
            assert request.config.stash[LAB].broken is None
        """,
        *("--abi", "m64"),
    )
    assert ran.code == Verdict.OOPS.value, ran.text
    rows = {one.name.rpartition("::")[2]: one for one in records.load(ran.report / records.FILE)}
    assert (rows["test_passes[m64]"].prop, rows["test_passes[m64]"].verdict) == (
        "P23",
        Verdict.OOPS,
    )
    assert rows["test_fails[m64]"].prop == "P3", "what it is about is broken as well"
    assert rows["test_later[m64]"].verdict is Verdict.PASS
    assert "OOPS: a report" in ran.text


#: What a test raises, the exit code of the run, and a line that must be shown.
ENDS = {
    "assert 1 == 2": (1, "E       assert 1 == 2"),
    "raise GuestError('gone', verdict=Verdict.LOST)": (12, "LOST: gone"),
    "raise GuestError('over', verdict=Verdict.PANIC, console_tail=('one', 'two'), hint='look')": (
        15,
        "PANIC: over\n  | one\n  | two\nhint: look",
    ),
    "raise CallerGoneError(1, 11)": (1, "the caller on channel 1 died: killed by SIGSEGV"),
    "raise InfraError('no disk', hint='buy one')": (16, "no disk\nhint: buy one"),
}


@pytest.mark.parametrize(("statement", "code", "line"), [(s, *e) for s, e in ENDS.items()])
def test_each_end_has_its_exit_code_and_its_line(
    run: Run, statement: str, code: int, line: str
) -> None:
    ran = run(f"def test_it(abi):\n    {statement}\ndef test_more(): pass", "--abi", "m64")
    assert ran.code == code, ran.text
    assert line in ran.text
    if statement.startswith("raise"):
        assert "Traceback" not in ran.text
        assert "raise " not in ran.text, "the line of the test says nothing"
    assert not ran.cases["test_it[m64]"].ok
    assert ran.cases["test_more"].ok
    assert f"- {Verdict(code).label} `" in (ran.report / "summary.md").read_text()


def test_the_worst_of_several_ends_decides(run: Run) -> None:
    """In setup and teardown, too; later tests still run."""
    ran = run(
        """
        @pytest.fixture
        def broken():
            raise GuestError("hung", verdict=Verdict.HANG)

        @pytest.fixture
        def late():
            yield
            raise GuestError("over", verdict=Verdict.OOPS)

        @pytest.mark.prop("P1")
        def test_setup(broken, abi): pass
        @pytest.mark.prop("P1")
        def test_teardown(late, abi): pass
        def test_fails(): assert 0
        def test_passes(): pass
        """,
        "--abi",
        "m32",
    )
    assert ran.code == Verdict.OOPS.value
    assert [case.ok for case in ran.cases.values()] == [False, False, False, True]
    assert "OOPS 2 of 2" in ran.text
    assert f"exit code {ran.code}: OOPS" in ran.text


def test_on_ci_an_abi_of_which_nothing_ran_is_a_failure(run: Run) -> None:
    tests = """
        @pytest.mark.prop("P1")
        def test_it(abi):
            if abi.name == "mx32":
                pytest.skip("this kernel does not run mx32 programs")
    """
    said = "mx32: nothing ran; with CI set that is a failure"
    ran = run(tests)
    assert (ran.code, said in ran.text) == (0, True)
    ran = run(tests, ci=True)
    assert (ran.code, said in ran.text) == (1, True)


def test_sigterm_ends_a_run_as_ctrl_c_does(run: Run) -> None:
    ran = run(
        """
        @pytest.fixture
        def thing():
            yield
            print("cleaned up", flush=True)

        def test_it(thing):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        """,
        "-s",
    )
    assert ran.code == pytest.ExitCode.INTERRUPTED
    assert "cleaned up" in ran.text
    assert f"signal {15}" in ran.text


def test_text_of_any_kind_is_reported(run: Run) -> None:
    """What a test says may hold anything, and the report is still one."""
    ran = run(
        r"""
        def test_it():
            raise InfraError("not ok 7 forged\nok 8 forged\x0cok 9\udcff \N{SNOWMAN}")
        """
    )
    assert ran.code == Verdict.INFRA.value, ran.text
    assert list(ran.cases) == ["test_it"]


def test_collecting_writes_no_report(run: Run) -> None:
    ran = run("def test_it(abi): pass", "--collect-only", "-q")
    assert ran.code == 0
    assert "test_it[mx32]" in ran.text
    assert not ran.report.exists()


# Several processes.

SHARED_OUT = """
@pytest.mark.prop("P1")
@pytest.mark.parametrize("number", range(6))
def test_each(abi, number, record_property):
    record_property("calls", 7)

@pytest.mark.prop("P3")
def test_one_that_fails(abi):
    assert abi.name != "m32", "not as m32"

@pytest.mark.prop("P9")
def test_one_that_is_skipped(abi):
    pytest.skip("for this reason")
"""


def test_workers_results_are_those_of_one_process(run: Run) -> None:
    """The table, the counts, results.ktap and the exit code."""
    alone, shared = run(SHARED_OUT), run(SHARED_OUT, "-n", "2")
    assert alone.code == shared.code == 1
    assert shared.cases.keys() == alone.cases.keys()
    for name, case in alone.cases.items():
        assert (shared.cases[name].ok, shared.cases[name].skip) == (case.ok, case.skip), name
    for text in ("42 calls", "m32: 6 passed, 1 failed, 1 skipped", "P9 alignment"):
        assert text in alone.text
        assert text in shared.text
    assert not list(shared.report.glob("gw*/results.*")), "a worker has written a report"


def test_a_verdict_from_a_worker_is_the_run_s(run: Run) -> None:
    ran = run(
        """
        @pytest.mark.parametrize("number", range(4))
        def test_fine(number):
            pass

        def test_lost():
            raise GuestError("gone", verdict=Verdict.LOST)
        """,
        *("-n", "2"),
    )
    assert ran.code == Verdict.LOST.value
    assert not ran.cases["test_lost"].ok


def test_a_worker_that_dies_is_a_failure(run: Run) -> None:
    """Of the test that it was at; the others are run all the same."""
    ran = run(
        """
        @pytest.mark.parametrize("number", range(4))
        def test_fine(number):
            pass

        def test_end():
            os._exit(3)
        """,
        *("-n", "2"),
    )
    assert ran.code == 1
    assert not ran.cases["test_end"].ok
    assert sum(case.ok for case in ran.cases.values()) == 4
