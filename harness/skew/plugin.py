# SPDX-License-Identifier: GPL-2.0-only
"""The matrix as pytest's tests: which cells there are, and one warm guest for each kernel.

Loaded by harness.plugin.  A test that takes ``skew_cell`` runs once for each
cell, one that takes ``skew_record`` once for each kernel and ABI; the tests of
one kernel run together, so that there is one guest at a time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from _pytest.compat import NOTSET

from harness.abi import ABI
from harness.interfaces import xyzzy
from harness.plugin import BATTERY_USED, CONTRACTS, INTERFACE, LAB, RESULTS
from harness.report.results import TestResult
from harness.skew import finish, matrix, results, show
from harness.skew.finish import Finished
from harness.skew.labs import SAME_CALLS, Age, SkewLab, ages, releases
from harness.skew.matrix import Cell, Row
from harness.skew.results import CellResult
from vm.errors import GuestError, HarnessError, Verdict

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

STATE = pytest.StashKey["_State"]()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """Where a test belongs in the matrix."""

    age: Age
    abi: ABI
    row: Row | None  #: None: the same calls on every kernel

    @property
    def name(self) -> str:
        return self.row.name if self.row else SAME_CALLS

    @property
    def facts(self) -> dict[str, str]:
        """What its report says of it."""
        return {
            "kernel": self.age.kernel,
            "variant": self.age.variant,
            "row": self.name,
            "abi": self.abi.name,
        }


@dataclasses.dataclass
class _State:
    """What a run of the matrix keeps."""

    chosen: tuple[Age, ...]
    lab: SkewLab | None = None  #: the kernel whose tests are being run
    finished: Finished | None = None


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which kernels the matrix has."""
    group = parser.getgroup("extsys")
    group.addoption(
        "--skew-kernel",
        action="append",
        default=[],
        metavar="KERNEL-VARIANT",
        help="of the matrix, such as 6.12-ver1 (all variants of --kernel)",
    )


def _chosen(config: pytest.Config) -> tuple[Age, ...]:
    """The kernels that were asked for, in the matrix's order."""
    asked = config.option.skew_kernel
    if not asked:
        return ages([config.stash[LAB].setup.kernel])
    known = {age.name: age for age in ages([])}
    for name in asked:
        if name not in known:
            raise pytest.UsageError(f"--skew-kernel {name}: one of {', '.join(known)}")
    return tuple(age for name, age in known.items() if name in asked)


def _state(config: pytest.Config) -> _State:
    if STATE not in config.stash:
        config.stash[STATE] = _State(chosen=_chosen(config))
    return config.stash[STATE]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for each cell; and one for each kernel that has the interface, in each ABI."""
    wanted = {"skew_cell", "skew_record"}.intersection(metafunc.fixturenames)
    if not wanted:
        return
    config = metafunc.config
    abis = config.stash[LAB].setup.abis
    places = [
        Place(age=age, abi=abi, row=row)
        for age in _state(config).chosen
        for row in (
            matrix.rows(releases(age.kernel))
            if "skew_cell" in wanted
            else ([] if age.off else [None])
        )
        for abi in abis
    ]
    metafunc.parametrize(
        "skew_place",
        [
            pytest.param(
                place,
                id="-".join(
                    (place.age.name, *([place.row.name] if place.row else []), place.abi.name)
                ),
                marks=_marks(config, place),
            )
            for place in places
        ],
    )


def _marks(config: pytest.Config, place: Place) -> list[pytest.MarkDecorator]:
    """With pytest-xdist one kernel's tests stay with one worker (--dist loadgroup)."""
    marks = [pytest.mark.prop("skew")]
    if config.pluginmanager.hasplugin("xdist"):
        marks.append(pytest.mark.xdist_group(name=place.age.name))
    return marks


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """One kernel after the other, whichever test function it is."""
    state = config.stash.get(STATE, None)
    if state is None:
        return
    order = {age: index for index, age in enumerate(state.chosen)}
    # Without a kernel that has the interface there is nothing to record, and no test for it.
    items[:] = [item for item in items if _params(item).get("skew_place", item) is not NOTSET]
    items.sort(key=lambda item: order[place.age] if (place := _place(item)) else -1)


def _params(item: pytest.Item) -> dict[str, object]:
    found: dict[str, object] = getattr(getattr(item, "callspec", None), "params", {})
    return found


def _place(item: pytest.Item) -> Place | None:
    found = _params(item).get("skew_place")
    return found if isinstance(found, Place) else None


@pytest.fixture
def skew_lab(request: pytest.FixtureRequest, skew_place: Place) -> Iterator[SkewLab]:
    """The kernel of this test, its guest booted.  The one before is ended."""
    config = request.config
    request.node.user_properties += skew_place.facts.items()
    state = _state(config)
    if state.lab is None or state.lab.age != skew_place.age:
        if state.lab is not None:
            state.lab.close()
        state.lab = SkewLab(config.stash[LAB].setup, skew_place.age)
    lab = state.lab
    request.node.stash[LAB] = lab  # who is to be booted anew when this guest is lost
    target = lab.target()
    request.node.user_properties.append(("release", target.hello.release))
    refusal = target.runs(skew_place.abi)
    if refusal:
        raise GuestError(refusal, verdict=Verdict.FAIL)
    target.mark(f"begin {request.node.nodeid}")
    before = target.calls
    yield lab
    request.node.user_properties.append(("calls", target.calls - before))
    lab.verify_alive()


@pytest.fixture
def shows(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Say what a cell shows, in a word or two."""
    properties = request.node.user_properties
    return lambda word: properties.append(("shows", word))


@pytest.fixture
def skew_cell(request: pytest.FixtureRequest, skew_lab: SkewLab, skew_place: Place) -> Cell:
    """One cell, ready to be checked."""
    assert skew_place.row is not None
    cell = skew_lab.cell(skew_place.row, skew_place.abi)
    request.node.stash[INTERFACE] = cell.interface
    return cell


@pytest.fixture
def skew_record(request: pytest.FixtureRequest, skew_lab: SkewLab, skew_place: Place) -> int:
    """Give the kernel the calls that all kernels are given, and keep what came of them."""
    recording = skew_lab.record(skew_place.abi)
    report = request.config.stash[LAB].setup.report
    path = report / results.ROWS.format(age=skew_place.age.name, abi=skew_place.abi.name)
    path.write_text(recording.to_json())
    return recording.calls


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep the reports of the cells until all of them are there."""
    _Reports.by_test.setdefault(report.nodeid, []).append(report)


class _Reports:
    """pytest gives the hook above no config to keep them in."""

    by_test: ClassVar[dict[str, list[pytest.TestReport]]] = {}


def _result(reports: list[pytest.TestReport]) -> CellResult | None:
    """The cell that a test's reports are about, if they are about one."""
    facts: dict[str, Any] = {}
    for report in reports:
        facts.update(report.user_properties)
    if "row" not in facts or "variant" not in facts:
        return None
    failed = [report for report in reports if report.failed]
    skipped = [report for report in reports if report.skipped]
    verdict = Verdict[facts["verdict"]] if "verdict" in facts else Verdict.FAIL
    return CellResult(
        kernel=facts["kernel"],
        variant=facts["variant"],
        row=facts["row"],
        abi=facts["abi"],
        shows=facts.get("shows", ""),
        release=facts.get("release", ""),
        verdict=verdict if failed else Verdict.PASS,
        calls=facts.get("calls", 0),
        seconds=sum(report.duration for report in reports),
        text="\n".join(str(report.longrepr) for report in failed),
        skip=str(skipped[0].longrepr) if skipped and not failed else None,
    )


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the matrix down, and let what the differential found count."""
    config = session.config
    if hasattr(config, "workerinput"):
        return
    setup = config.stash[LAB].setup
    found = [one for one in map(_result, _Reports.by_test.values()) if one is not None]
    if not found:
        _write_battery(config)
        return
    state = _state(config)  # with pytest-xdist the tests were collected elsewhere
    setup.report.mkdir(parents=True, exist_ok=True)
    results.write(setup.report, found)
    try:
        state.finished = finish.finish(
            [setup.report],
            report=setup.report,
            ages=state.chosen,
            keys=[one.key for one in found],
        )
    except HarnessError as exc:
        raise pytest.UsageError("\n".join(exc.lines())) from exc
    if session.exitstatus == pytest.ExitCode.OK and state.finished.verdict is not Verdict.PASS:
        session.exitstatus = state.finished.verdict.value


def _write_battery(config: pytest.Config) -> None:
    """What the battery says of a kernel of the matrix is kept for a merged table."""
    setup = config.stash[LAB].setup
    ours = Age(kernel=setup.kernel, variant=setup.variant) in ages([])
    elsewhere = setup.local or setup.bzimage or setup.kernel_tree or setup.patches
    if not ours or elsewhere or not config.stash.get(BATTERY_USED, False):
        return
    if [one.name for one in config.stash[CONTRACTS]] != [xyzzy.CONTRACT.name]:
        return
    by_abi: dict[str, list[TestResult]] = {}
    for one in config.stash[RESULTS]:
        if one.prop and one.abi:
            by_abi.setdefault(one.abi, []).append(one)
    cells = [
        CellResult(
            kernel=setup.kernel,
            variant=setup.variant,
            row=results.BATTERY.format(level=config.option.battery),
            abi=abi,
            verdict=max((one.verdict for one in several), key=lambda verdict: verdict.value),
            shows=f"{sum(one.verdict is Verdict.PASS for one in several)} passed",
            calls=sum(one.calls for one in several),
            seconds=sum(one.seconds for one in several),
            text="\n".join(one.text for one in several if one.text),
        )
        for abi, several in by_abi.items()
    ]
    if cells:
        setup.report.mkdir(parents=True, exist_ok=True)
        results.write(setup.report, cells)


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    """The matrix."""
    state = config.stash.get(STATE, None)
    if state is None or state.finished is None:
        return
    text = show.terminal(
        state.finished.matrix,
        width=max(100, terminalreporter._tw.fullwidth),
        color=terminalreporter._tw.hasmarkup,
    )
    terminalreporter.write(text)
    terminalreporter.write_line(f"table: {config.stash[LAB].setup.report / finish.HTML}")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave no guest behind, however the run ended."""
    state = config.stash.get(STATE, None)
    if state is not None and state.lab is not None:
        state.lab.close()
