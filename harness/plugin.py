# SPDX-License-Identifier: GPL-2.0-only
"""The pytest plugin: options, fixtures, verdicts and reports.

A test that takes ``abi`` runs once for each ABI; one that takes ``interface``
is given the contract (xyzzy's, or what a module's own ``contract`` fixture
returns) on a live target.  ``@pytest.mark.prop("P3")`` names the property that
a test stands for in the report.

A test that fails because the machine went away, the kernel oopsed or an answer
never came is reported with that verdict, and the run's exit code is that
verdict's own (see vm.errors.Verdict).
"""

from __future__ import annotations

import itertools
import os
import re
import signal
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

import pytest

from harness import blame, interfaces, known, prove, splats
from harness import case as cases
from harness.abi import ABI, ABIS, abi
from harness.batteries import BATTERY, ELSEWHERE, Item, Level
from harness.contract import Contract
from harness.findings import ContractBrokenError, Mismatch
from harness.how import NoProgram
from harness.interface import Interface, SetupError
from harness.lab import Lab, Setup
from harness.report import coverage, ktap, reproducers, show
from harness.report import results as records
from harness.report.results import PROPERTIES, TestResult, counts
from harness.splats import SplatError
from harness.target import MOST_LANES
from vm import kernels, ltp
from vm.console import Event
from vm.errors import GuestError, HarnessError, Verdict
from vm.uml import ForbiddenError

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

#: The matrix of old and new programs and kernels is a plugin of its own.
pytest_plugins = ["harness.skew.plugin"]

LAB = pytest.StashKey[Lab]()
CONTRACTS = pytest.StashKey[tuple[Contract, ...]]()
FAMILY = pytest.StashKey[tuple[Contract, ...]]()
INTERFACE = pytest.StashKey[Interface]()
GONE = pytest.StashKey[list[str]]()
BATTERY_USED = pytest.StashKey[bool]()
LAST_CONTRACT = pytest.StashKey[Contract]()
RESULTS = pytest.StashKey[list[TestResult]]()
PROVED = pytest.StashKey[dict[tuple[str, str, type, tuple[str, ...]], str]]()
REPORT_DIR = "build/report"
#: The property that a report of the kernel's breaks, in whichever test.
SPLATS = "P23"
#: Under which a worker of pytest-xdist says what it ran on.
WORKER = "extsys"
#: Of the reproducers that this process writes, so that each has one of its own.
NUMBERS = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of a run on a target."""
    group = parser.getgroup("extsys", "extensible syscalls on a real kernel")
    group.addoption(
        "--kernel",
        default="",
        help=f"of vm/kernels.toml ({kernels.DEFAULT_KERNEL}; for a tree the one nearest to it)",
    )
    group.addoption(
        "--variant",
        default=kernels.DEFAULT_VARIANT,
        help=f"of that kernel: {', '.join(kernels.load_variants())} (%(default)s)",
    )
    group.addoption("--kernel-tree", type=Path, help="a kernel tree of yours; never written to")
    group.addoption(
        "--patch", type=Path, action="append", default=[], help="a patch on top of the series"
    )
    group.addoption("--abi", action="append", default=[], help="only these: m64, m32, mx32")
    group.addoption("--accel", default="auto", help="auto, kvm or tcg (%(default)s)")
    group.addoption("--battery", default="quick", help="quick or full (%(default)s)")
    group.addoption("--prop", action="append", default=[], help="only tests of this property")
    group.addoption("--repeat", type=int, default=1, help="each item of the battery so many times")
    group.addoption("--brief", action="store_true", help="spend no time on making failures small")
    group.addoption("--jobs", type=int, help="compiler jobs")
    group.addoption("--mirror", help="base URL of kernel sources")
    group.addoption(
        "--contract",
        default="xyzzy",
        help="names in harness/interfaces, several with commas, or a file, or all (%(default)s)",
    )
    group.addoption(
        "--prove", action="store_true", help="compile each reproducer and run it in the guest"
    )
    group.addoption(
        "--coverage", action="store_true", help="keep the counts of what the kernel executed (gcov)"
    )
    group.addoption("--ltp", default="", help="sources of LTP with its library, with colons")
    group.addoption("--local", action="store_true", help="this machine's kernel, no guest")
    group.addoption("--bzimage", type=Path, help="a kernel built elsewhere, instead of building")
    group.addoption("--headers", type=Path, help="its UAPI include directory")
    group.addoption("--report", type=Path, default=Path(REPORT_DIR), help="(%(default)s)")


def chosen_abis(asked: list[str]) -> tuple[ABI, ...]:
    """The ABIs that ``--abi`` names, several with commas; all when it names none."""
    names = [name.strip() for one in asked for name in one.split(",") if name.strip()]
    return tuple(abi(name) for name in dict.fromkeys(names)) or ABIS


def _worker(config: pytest.Config) -> str:
    """The name of the pytest-xdist worker that this process is; empty when it is none."""
    found: str = getattr(config, "workerinput", {}).get("workerid", "")
    return found


def full_battery_cpus() -> int:
    """CPUs of a guest that makes a hundred million calls: what its callers can use."""
    return min(len(os.sched_getaffinity(0)), MOST_LANES)


def pytest_configure(config: pytest.Config) -> None:
    """Check what the user asked for before anything runs."""
    config.addinivalue_line("markers", "prop(name): the property that the test stands for")
    config.addinivalue_line("markers", "series(name): only where the variant's stack has it")
    option = config.option
    try:
        setup = Setup(
            abis=chosen_abis(option.abi),
            report=option.report.resolve() / _worker(config),
            kernel=option.kernel,
            variant=option.variant,
            kernel_tree=option.kernel_tree,
            accel=option.accel,
            jobs=option.jobs,
            mirror=option.mirror,
            local=option.local,
            bzimage=option.bzimage,
            headers=option.headers,
            patches=tuple(option.patch),
            cpus=full_battery_cpus() if option.battery == "full" else 1,
            ltp=ltp.places(option.ltp),
        )
        several = interfaces.families(option.contract)
    except HarnessError as exc:
        raise pytest.UsageError("\n".join(exc.lines())) from exc
    config.stash[LAB] = Lab(setup)
    if option.coverage:
        config.stash[LAB].at_end.append(coverage.keep)
    config.stash[FAMILY] = several[0]
    # Until the kernel's headers are there: which tests there are has to be known before.
    config.stash[CONTRACTS] = tuple(_expected(one, setup) for one in several)
    config.stash[RESULTS] = []
    config.stash[PROVED] = {}
    if not _worker(config):
        config.pluginmanager.register(_Collector(config), "extsys-results")
    # `timeout` and CI runners end a run with SIGTERM: it must clean up as Ctrl-C does.
    signal.signal(signal.SIGTERM, _terminated)


def _expected(several: tuple[Contract, ...], setup: Setup) -> Contract:
    """The contract of the variant that is built; of a foreign kernel, the last one."""
    if setup.kernel_tree or setup.bzimage or setup.local or setup.headers:
        return several[-1]
    stack = kernels.variant(setup.variant).stack
    named = [one for one in several if one.versions[-1].name.lower() in stack]
    return (named or several[:1])[-1]


def _terminated(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt(f"signal {signum}")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave nothing behind, however the run ended."""
    lab = config.stash.get(LAB, None)
    if lab is not None:
        lab.close()


def together(config: pytest.Config, name: str) -> tuple[pytest.MarkDecorator, ...]:
    """A mark by which pytest-xdist has all tests of an interface run by one worker, on one guest.

    What is known of it is known there, and a comparison of ABIs finds their answers.
    """
    if not config.pluginmanager.hasplugin("xdist"):
        return ()
    return (pytest.mark.xdist_group(name=name),)


def _keep_together(items: list[pytest.Item]) -> None:
    """Put the name of each test's group behind its id, by which pytest-xdist shares tests out.

    It does so itself, up to 3.8 in a way that has no effect any more since pytest 9.2,
    where an item's id is an object: ``loadgroup`` is then as good as ``load``.
    """
    for item in items:
        group = item.get_closest_marker("xdist_group")
        if group is None or own_name(item.nodeid) != item.nodeid:
            continue
        named = f"{item.nodeid}@{group.kwargs['name']}"
        structured = getattr(item, "_id", None)
        attribute = "_nodeid" if structured is None else "_id"
        setattr(item, attribute, named if structured is None else type(structured).parse(named))


def own_name(nodeid: str) -> str:
    """A test's name, without the group that pytest-xdist has put behind it."""
    return re.sub(r"@[\w.-]+$", "", nodeid)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes ``abi``, itself or by a fixture, runs once for each.

    One that takes ``battery_item`` runs for each item of the battery that
    applies to the contract in that ABI.
    """
    config = metafunc.config
    chosen = config.stash[LAB].setup.abis
    if "battery_item" in metafunc.fixturenames:
        contracts = config.stash[CONTRACTS]
        config.stash[BATTERY_USED] = True
        applying = [
            (contract, item, abi)
            for contract in contracts
            for item in BATTERY
            for abi in chosen
            if item.unless(contract, abi) is None
        ]
        names = [f"{item.prop}-{item.name}-{abi.name}" for _, item, abi in applying]
        if (times := config.option.repeat) > 1:
            names = [
                f"{item.prop}-{item.name}-round{number}-{abi.name}"
                for number in range(times)
                for _, item, abi in applying
            ]
            applying *= times
        marks = [pytest.mark.prop(item.prop) for _, item, _ in applying]
        if len(contracts) == 1:  # which the fixture gives, in the kernel's own version
            metafunc.parametrize(
                ("battery_item", "abi"),
                [
                    pytest.param(item, abi, id=name, marks=mark)
                    for (_, item, abi), name, mark in zip(applying, names, marks, strict=True)
                ],
            )
            return
        metafunc.parametrize(
            ("contract", "battery_item", "abi"),
            [
                pytest.param(
                    *one, id=f"{one[0].name}-{name}", marks=(mark, *together(config, one[0].name))
                )
                for one, name, mark in zip(applying, names, marks, strict=True)
            ],
        )
    elif "abi" in metafunc.fixturenames:
        metafunc.parametrize("abi", chosen, ids=[one.name for one in chosen], scope="session")


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest) -> Lab:
    """The run's kernel, programs and guest."""
    return request.config.stash[LAB]


@pytest.fixture(scope="session")
def kernel_image(lab: Lab) -> Path:
    """The kernel that guests boot."""
    return lab.image


@pytest.fixture
def level(request: pytest.FixtureRequest) -> Level:
    """How much of the battery is asked for."""
    option = request.config.option

    def expected(mismatch: Mismatch) -> bool:
        return bool(_explained(request.node, [mismatch])[0])

    return Level(full=option.battery == "full", brief=option.brief, expected=expected)


@pytest.fixture(scope="session")
def contract(request: pytest.FixtureRequest) -> Contract:
    """The contract under test: --contract's, or a module's own fixture of this name.

    Where it has several versions, that of the kernel at hand.
    """
    stash = request.config.stash
    several: tuple[Contract, ...] = stash[FAMILY]
    expected: tuple[Contract, ...] = stash[CONTRACTS]
    found = interfaces.for_kernel(several, stash[LAB].compiler)
    stash[CONTRACTS] = (found, *expected[1:])
    return found


@pytest.fixture
def interface(
    request: pytest.FixtureRequest, lab: Lab, contract: Contract, abi: ABI
) -> Iterator[Interface]:
    """The contract, called in one ABI's way on a live target.

    Afterwards the console has nothing to say that this test caused.
    """
    if lab.setup.local and contract.needs.root:
        pytest.skip(f"left out on this machine's kernel: it needs root: {contract.needs.root}")
    lab.fresh(abi.name)
    target = lab.target()
    release = kernels.parse_version(target.hello.release)
    older = release < contract.since
    item = request.node.callspec.params.get("battery_item")
    if older != (isinstance(item, Item) and item.older):
        came = f"{contract.name} came with Linux {contract.since[0]}.{contract.since[1]}"
        pytest.skip(came if older else f"{came}, and this kernel has it")
    if not older:
        lab.check_headers(contract)
    last = request.config.stash.get(LAST_CONTRACT, contract)
    if last.setup and last != contract:
        for one in lab.setup.abis:  # what it has set up must not last
            target.gone(one)
    request.config.stash[LAST_CONTRACT] = contract
    refusal = target.runs(abi)
    if refusal:
        if lab.setup.local:
            pytest.skip(refusal)
        raise GuestError(refusal, verdict=Verdict.FAIL)
    if not lab.setup.local:  # this machine's log is not ours to write to
        lab.listen()
        target.begin(f"begin {own_name(request.node.nodeid)}")
    before = target.calls
    made = Interface(contract, abi, compiler=lab.compiler, target=target, described=lab.described)
    if lab.setup.local and not older:
        key = contract.name, abi.name
        if key not in lab.left_open:
            lab.left_open[key] = made.left_open(release)
        if reason := lab.left_open[key]:
            pytest.skip(f"left out: {reason}")
    request.node.stash[INTERFACE] = made
    yield made
    request.node.user_properties.append(("calls", target.calls - before))
    lab.verify_alive(lambda event: _blame(request.node, lab, event, made), abi=abi.name)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell faults apart: one line for ours, the verdict for the machine's."""
    report = yield
    params = getattr(getattr(item, "callspec", None), "params", {})
    if "abi" in params and call.when == "setup":
        report.user_properties.append(("abi", params["abi"].name))
    tested = getattr(item, "funcargs", {}).get("contract")
    if isinstance(tested, Contract) and call.when == "call":
        report.user_properties.append(("interface", tested.name))
    elif "contract" in params and call.when == "setup":
        report.user_properties.append(("interface", params["contract"].name))
    marker = item.get_closest_marker("prop")
    if marker and call.when == "setup":
        report.user_properties.append(("prop", marker.args[0]))
    error = call.excinfo.value if call.excinfo else None
    if isinstance(error, HarnessError):
        report.user_properties.append(("verdict", error.verdict.name))
        report.longrepr = "\n".join(error.lines())
    if isinstance(error, ContractBrokenError):
        _tell(item, report, error)
    if isinstance(error, SetupError) and item.config.stash[LAB].setup.local:
        report.outcome = "skipped"
        report.longrepr = (str(item.path), None, str(error))  # type: ignore[assignment]
    if isinstance(error, ForbiddenError):
        report.outcome = "skipped"
        report.longrepr = (str(item.path), None, str(error))  # type: ignore[assignment]
    if isinstance(error, SplatError):
        # Whichever test it was that provoked it.
        report.user_properties.append(("splat", SPLATS))
    elif isinstance(error, GuestError):
        if error.verdict in (Verdict.OOPS, Verdict.PANIC):
            report.longrepr = f"{report.longrepr}\n  while: {_under_way(item)}"
        _note_loss(item.stash.get(LAB, item.config.stash[LAB]), error)
    return report


def _under_way(item: pytest.Item) -> str:
    """What the guest was at when it was lost."""
    interface = item.stash.get(INTERFACE, None)
    if interface is None:
        return "no call of an interface's was made"
    request = interface.target.last_request
    asked = request.asked if request else None
    register = interface.abi.register
    return splats.words(
        request,
        asked,
        lambda case: cases.describe(interface.contract, interface.layout, case, register=register),
    )


def _explained(
    item: pytest.Item, mismatches: Iterable[Mismatch]
) -> tuple[list[str], list[Mismatch]]:
    """The names of the known findings that mismatches are, and the mismatches that are none."""
    interface = item.stash.get(INTERFACE, None)
    marker = item.get_closest_marker("prop")
    setup = item.config.stash[LAB].setup
    # Nobody knows what a kernel with changes of somebody's has to show.
    if interface is None or marker is None or setup.patches or setup.kernel_tree:
        return [], list(mismatches)
    version = kernels.parse_version(interface.target.hello.release)
    return known.explain(
        mismatches,
        known.of(interface.asked.name, version, arch=item.config.stash[LAB].arch),
        prop=marker.args[0],
        abi=interface.abi.name,
    )


def _tell(item: pytest.Item, report: pytest.TestReport, error: ContractBrokenError) -> None:
    """What a broken contract's test says; a known finding alone is not a failure.

    The two lines of each cause say it all; where in the harness it was raised does not.
    """
    names, new = _explained(item, error.mismatches)
    lines = _reproducers(item, error)
    report.longrepr = "\n".join((str(error), *lines))
    report.user_properties.append(("known", names))
    if names and not new:
        report.user_properties.append(("finding", str(report.longrepr)))
        report.outcome = "skipped"
        report.wasxfail = f"known finding: {', '.join(names)}"


def _reproducers(item: pytest.Item, error: ContractBrokenError) -> list[str]:
    """Write a C program for each cause; say where it is, or why there is none."""
    interface = item.stash.get(INTERFACE, None)
    marker = item.get_closest_marker("prop")
    if interface is None or marker is None:
        return []
    lab = item.config.stash[LAB]
    directory = lab.setup.report / "reproducers"
    lines = []
    for mismatch in error.mismatches[: ContractBrokenError.SHOWN]:
        number = next(NUMBERS)
        one = reproducers.write(interface, mismatch, directory, prop=marker.args[0], number=number)
        if isinstance(one, NoProgram):
            lines.append(f"no reproducer: {one.why}")
            continue
        lines.append(f"reproducer: {one.path}")
        if item.config.option.prove:
            lines.append(f"reproduced: {_proved(item, interface, mismatch, one)}")
    return lines


def _proved(
    item: pytest.Item, interface: Interface, mismatch: Mismatch, program: reproducers.Reproducer
) -> str:
    """What a reproducer did on the kernel that it accuses.

    A known finding shows in many tests: one program for each way in which it
    shows, as that ABI, is compiled and run, and the others refer to it.
    """
    lab, kept = item.config.stash[LAB], item.config.stash[PROVED]
    names, _ = _explained(item, [mismatch])
    key = interface.abi.name, mismatch.cause, type(mismatch.how), tuple(names)
    if names and key in kept:
        return kept[key]
    said = prove.in_guest(lab, interface.target, program)
    kept[key] = f"as by {program.path.name}: {said}"
    return said


def _blame(item: pytest.Item, lab: Lab, event: Event, interface: Interface) -> str:
    """Which call made the kernel say it, and the program that is that call."""
    option = item.config.option
    found = blame.find(lab, event, interface, brief=option.brief)
    one = reproducers.write(
        found.interface,
        found.mismatch(event),
        lab.setup.report / "reproducers",
        prop=SPLATS,
        number=next(NUMBERS),
    )
    if isinstance(one, NoProgram):
        return f"{found.words}\n  no reproducer: {one.why}"
    lines = [found.words, f"  reproducer: {one.path}"]
    if option.prove and not event.fatal:
        lab.listen()  # what it makes the kernel say is no test's
        lines.append(f"  reproduced: {prove.in_guest(lab, interface.target, one)}")
        lab.heard()
    return "\n".join(lines)


def _note_loss(lab: Lab, error: GuestError) -> None:
    """A dead or oopsed kernel is booted anew; a dead caller starts again by itself."""
    if error.verdict is not Verdict.FAIL:
        lab.lose(error)


@pytest.hookimpl(trylast=True)  # behind pytest-xdist's
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A property that the report does not know is a mistake in the test.

    A test of a series that the variant's stack has not is no test of this run,
    nor is one of another property than --prop asks for.
    """
    stack = kernels.variant(config.stash[LAB].setup.variant).stack
    wanted = config.option.prop
    absent = [
        item
        for item in items
        if ((marker := item.get_closest_marker("series")) and marker.args[0] not in stack)
        or (wanted and not ((prop := item.get_closest_marker("prop")) and prop.args[0] in wanted))
    ]
    if absent:
        config.hook.pytest_deselected(items=absent)
        items[:] = [item for item in items if item not in absent]
    for item in items:
        marker = item.get_closest_marker("prop")
        name = marker.args[0] if marker and marker.args else None
        if marker and name not in PROPERTIES:
            raise pytest.UsageError(f"{item.nodeid}: unknown property {name!r}")
    if getattr(config.option, "loadgroup", False):  # pytest-xdist's, of a worker
        _keep_together(items)


class _Collector:
    """The results of a run, from its tests' reports, wherever those ran.

    With pytest-xdist the tests run in workers and their reports come here, to
    the process that has the terminal; a worker keeps none, and says at its end
    what it ran on.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self._open: dict[str, list[pytest.TestReport]] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep each phase's report until the test is over; whoever shows it, by its own name."""
        report.nodeid = own_name(report.nodeid)
        self._open.setdefault(report.nodeid, []).append(report)
        # A worker that died has one report for the test that it was at.
        if report.when in ("teardown", "???"):
            self.config.stash[RESULTS].append(_result(self._open.pop(report.nodeid)))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """A worker has ended: what it ran on."""
        told = getattr(node, "workeroutput", {}).get(WORKER)
        if told:
            self.config.stash[LAB].take_over(told["facts"], told["release"])
            self.config.stash[BATTERY_USED] = told["battery"]


def _result(reports: list[pytest.TestReport]) -> TestResult:
    """One test's result, by the reports of its phases."""
    facts: dict[str, Any] = {}
    for report in reports:
        facts.update(cast("list[tuple[str, Any]]", report.user_properties))
    failed = [report for report in reports if report.failed]
    skipped = [report for report in reports if report.skipped]
    verdict = Verdict[facts["verdict"]] if "verdict" in facts else Verdict.FAIL
    # What the test itself is about may be as it should.
    splat = len(failed) == 1 and failed[0].when == "teardown" and facts.get("splat")
    skip = None
    if skipped and not failed and "finding" not in facts:
        longrepr = skipped[0].longrepr
        skip = longrepr[2] if isinstance(longrepr, (tuple, list)) else str(longrepr)
    return TestResult(
        name=own_name(reports[0].nodeid),
        verdict=verdict if failed else Verdict.PASS,
        skip=skip,
        prop=splat or facts.get("prop"),
        abi=facts.get("abi"),
        calls=facts.get("calls", 0),
        seconds=sum(report.duration for report in reports),
        text=facts.get("finding") or "\n".join(str(one.longrepr) for one in failed),
        interface=facts.get("interface"),
        known=tuple(facts.get("known", ())),
    )


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """The exit code says what went wrong, the report directory says all of it."""
    if _worker(session.config):
        lab = session.config.stash[LAB]
        session.config.workeroutput[WORKER] = {  # type: ignore[attr-defined]
            "facts": lab.facts(),
            "release": lab.release,
            "battery": session.config.stash.get(BATTERY_USED, False),
        }
        return
    results = session.config.stash[RESULTS]
    if not results or session.config.option.collectonly:
        return
    worst = _worst(results)
    gone = session.config.stash[GONE] = _gone(session.config, results)
    hollow = os.environ.get("CI") and _hollow(session.config, results)
    if worst.value > Verdict.FAIL.value:
        session.exitstatus = worst.value
    elif exitstatus == pytest.ExitCode.OK and (gone or hollow):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    _write_report(session.config, results)


def _gone(config: pytest.Config, results: list[TestResult]) -> list[str]:
    """Known findings that this run should have met, and has not."""
    lab = config.stash[LAB]
    version = lab.version
    if version is None or lab.setup.patches or lab.setup.kernel_tree:
        return []
    met = {(name, one.abi) for one in results for name in one.known}
    found = {}
    for one in results:
        if one.interface is None or one.skip is not None or one.verdict is not Verdict.PASS:
            continue
        prop, abi = one.prop or "", one.abi or ""
        for finding in known.of(one.interface, version, arch=lab.arch):
            if finding.expected(prop=prop, abi=abi) and (finding.name, abi) not in met:
                found[finding.name, abi] = f"{abi}: {finding.name} is not there: {finding.what}"
    return list(found.values())


def _worst(results: list[TestResult]) -> Verdict:
    return max((one.verdict for one in results), key=lambda verdict: verdict.value)


def _left_out(config: pytest.Config) -> list[str]:
    """Items of the battery that do not apply to the contract, each with its reason."""
    if not config.stash.get(BATTERY_USED, False):
        return []
    contracts, abis = config.stash[CONTRACTS], config.stash[LAB].setup.abis
    if len(contracts) > 1:
        return []  # which is a page of lines for each
    why: dict[tuple[str, str], list[str]] = {}
    for item in BATTERY:
        for one in abis:
            reason = item.unless(contracts[0], one)
            if reason is not None:
                why.setdefault((f"{item.prop} {item.name}", reason), []).append(one.name)
    lines = [
        f"not for {', '.join(names)}: {name}: {reason}" for (name, reason), names in why.items()
    ]
    return lines + [f"not in the battery: {prop}: {reason}" for prop, reason in ELSEWHERE.items()]


def _hollow(config: pytest.Config, results: list[TestResult]) -> list[str]:
    """ABIs of which nothing ran: on CI that is a failure, not a skip.

    Except where the host forbids what the run is about.
    """
    if isinstance(config.stash[LAB].broken, ForbiddenError):
        return []
    return [name for name, count in counts(results).items() if not count.passed + count.failed]


def _write_report(config: pytest.Config, results: list[TestResult]) -> None:
    lab = config.stash[LAB]
    directory = lab.setup.report
    directory.mkdir(parents=True, exist_ok=True)
    cases = [
        ktap.Case(
            number=number,
            name=one.name,
            ok=one.verdict is Verdict.PASS,
            skip=one.skip,
            lines=tuple(one.text.splitlines()),
        )
        for number, one in enumerate(results, start=1)
    ]
    _write(directory / "results.ktap", ktap.write(cases))
    summary = show.markdown(results, title="Extensible syscalls", facts=lab.facts())
    _write(directory / "summary.md", summary)
    records.dump(
        directory / records.FILE,
        results,
        facts=lab.facts(),
        release=lab.release,
        gone=config.stash[GONE],
    )


def _write(path: Path, text: str) -> None:
    """What a test says may hold bytes that are no text."""
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def pytest_terminal_summary(
    terminalreporter: TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    """The table, property by ABI, and each ABI's count."""
    results = config.stash[RESULTS]
    if not any(one.prop for one in results):
        return
    lab = config.stash[LAB]
    for line in _left_out(config):
        terminalreporter.write_line(line)
    for name, value in lab.facts().items():
        terminalreporter.write_line(f"{name}: {value}")
    text = show.terminal(
        results,
        title="property by ABI, with the calls that stand behind each cell",
        width=max(80, terminalreporter._tw.fullwidth),
        color=terminalreporter._tw.hasmarkup,
    )
    terminalreporter.write(text)
    terminalreporter.write_line(show.count_line(counts(results)))
    for line in config.stash.get(GONE, []):
        terminalreporter.write_line(f"a known finding has gone: {line}", red=True)
    for name in _hollow(config, results):
        terminalreporter.write_line(f"{name}: nothing ran; with CI set that is a failure")
    worst = _worst(results)  # pytest gives the exit code that it had before ours
    if worst.value > Verdict.FAIL.value:
        terminalreporter.write_line(f"exit code {worst.value}: {worst.label}")
    terminalreporter.write_line(f"report: {lab.setup.report}")
