# SPDX-License-Identifier: GPL-2.0-only
"""The command line: what `make` calls, and what `extsys` is when installed.

Exit codes: pytest's own for tests, 2 for a mistake of the user's, and those of
vm.errors.Verdict for what the infrastructure or the kernel did.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar

import click
from rich.console import Console

from harness import conformance, interfaces, local, record
from harness.abi import ABIS
from harness.contract import Contract
from harness.lab import Lab, Setup
from harness.plugin import REPORT_DIR, chosen_abis, full_battery_cpus
from harness.report import results as records
from harness.skew import finish as skew_finish
from harness.skew import labs as skew_labs
from harness.skew import results as skew_results
from harness.skew import show as skew_show
from harness.skew import sidebyside
from harness.skew.labs import SkewLab
from vm import accel, build, doctor, kernels, kernelset, ltp, proc, shell
from vm.errors import HarnessError, UserError
from vm.review import bench as reviews
from vm.review import mails, run, table

Command = TypeVar("Command", bound=Callable[..., Any])

#: What `vm-test` is about.
DEFAULT_CONTRACT = "xyzzy"
#: Where the mails of the series go, and what their checks leave.
SERIES_DIR = "build/series"
SERIES_CHECK_DIR = "build/series-check"
#: Where the tests are, seen from the checkout.
HOST_TESTS = "selftests/host"
GUEST_TESTS = "selftests/vm"
TARGET_TESTS = "selftests/target"
#: And the battery, which is a part of the package.
BATTERY_TESTS = Path(conformance.__file__).parent / "test_contract.py"
#: And the kernel's own selftests of the interfaces that it is about.
KSELFTESTS = BATTERY_TESTS.with_name("test_kselftests.py")
#: And the matrix of old and new.
SKEW_TESTS = BATTERY_TESTS.with_name("test_skew.py")


def _options(*names: str) -> Callable[[Command], Command]:
    """The options that several commands share, each defined once."""
    known = {
        "kernel": click.option(
            "--kernel",
            default="",
            help="A kernel of vm/kernels.toml "
            f"(default: {kernels.DEFAULT_KERNEL}; for a tree the one nearest to it).",
        ),
        "variant": click.option(
            "--variant",
            default=kernels.DEFAULT_VARIANT,
            show_default=True,
            help=f"Of that kernel: {', '.join(kernels.load_variants())}.",
        ),
        "kernel_tree": click.option(
            "--kernel-tree",
            type=click.Path(path_type=Path),
            callback=lambda _context, _option, value: value and value.expanduser(),
            help="A kernel tree of your own, patched or not; it is never written to.",
        ),
        "abi": click.option(
            "--abi",
            multiple=True,
            help=f"Only these: {', '.join(one.name for one in ABIS)}.",
        ),
        "accel": click.option(
            "--accel",
            default="auto",
            show_default=True,
            help="auto, kvm or tcg; auto takes KVM only where a kernel has booted under it.",
        ),
        "jobs": click.option("--jobs", type=click.IntRange(min=1), help="Compiler jobs."),
        "mirror": click.option("--mirror", help="Base URL of kernel sources."),
        "patches": click.option(
            "--patch",
            "patches",
            multiple=True,
            type=click.Path(path_type=Path),
            help="A patch on top of the series, such as one of kernel-patches/mutants/.",
        ),
        "bzimage": click.option(
            "--bzimage",
            type=click.Path(path_type=Path),
            callback=lambda _context, _option, value: value and value.expanduser(),
            help="A kernel built elsewhere: a bzImage, or a vmlinux with a PVH note.",
        ),
        "headers": click.option(
            "--headers",
            type=click.Path(path_type=Path),
            callback=lambda _context, _option, value: value and value.expanduser(),
            help="Its UAPI headers: what make headers_install made.",
        ),
        "report": click.option(
            "--report",
            type=click.Path(path_type=Path, file_okay=False),
            default=REPORT_DIR,
            show_default=True,
            help="Where the run's output goes.",
        ),
        "battery": click.option(
            "--battery",
            type=click.Choice(["quick", "full"]),
            default="quick",
            show_default=True,
            help="How much of the battery is run.",
        ),
    }

    def add(command: Command) -> Command:
        for name in reversed(names):
            command = known[name](command)
        return command

    return add


#: The options of a run on a target.
A_RUN = (
    *("kernel", "variant", "kernel_tree", "patches", "bzimage", "headers"),
    *("abi", "accel", "battery", "jobs", "mirror", "report"),
)


def _setup(**asked: Any) -> Setup:
    """What the user asked for, checked."""
    report = Path(asked.pop("report", REPORT_DIR)).resolve()
    return Setup(abis=chosen_abis(list(asked.pop("abi", ()))), report=report, **asked)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Prove the contract of an extensible-struct system call on a real kernel."""


@cli.command("vm-test")
@_options(*A_RUN)
@click.option(
    "--ltp",
    callback=lambda _context, _option, value: ltp.places(value or ""),
    help="Sources of LTP in which its library is built, with colons.",
)
@click.option(
    "--contract",
    type=click.Choice(interfaces.SAMPLES),
    default=DEFAULT_CONTRACT,
    show_default=True,
    help="The sample that the battery is about.",
)
@click.argument("pytest_args", nargs=-1, type=click.UNPROCESSED)
def vm_test(battery: str, contract: str, pytest_args: tuple[str, ...], **asked: Any) -> None:
    """Build the kernel, boot it, and test it with callers of every ABI."""
    setup = _setup(**asked)
    # Built before pytest starts: what takes minutes shows its progress.
    _prepare(Lab(setup), interfaces.load(contract))
    named = any(Path(arg.partition("::")[0]).exists() for arg in pytest_args)
    tests = [] if named else [str(BATTERY_TESTS), TARGET_TESTS]
    options = [*_pytest_options(setup, battery), "--contract", contract]
    _pytest([*tests, *options, *pytest_args])


@cli.command()
@click.argument("contract")
@_options(*A_RUN)
@click.option("--local", is_flag=True, help="The kernel that this machine runs, without a guest.")
@click.argument("pytest_args", nargs=-1, type=click.UNPROCESSED)
def check(contract: str, battery: str, pytest_args: tuple[str, ...], **asked: Any) -> None:
    """Run the battery on CONTRACT: names in harness/interfaces, or a file that defines one."""
    checked = interfaces.load_several(contract)
    setup = _setup(**asked)
    if setup.local:
        contract = _here(setup, contract, checked)
    else:
        _prepare(Lab(setup), *checked)
    options = [*_pytest_options(setup, battery), "--contract", contract]
    if setup.local:
        options += ["-p", "no:cacheprovider"]  # whose directory may not be ours to write to
    _pytest([str(BATTERY_TESTS), "-q", *options, *pytest_args], powerless=setup.local)


def _here(setup: Setup, named: str, checked: Sequence[Contract]) -> str:
    """Of the interfaces that are named those that can be tried on this machine's own kernel.

    What is left out is said.  Raises UserError when that is all of them.
    """
    lab = Lab(setup)
    note = local.age(lab.compiler)
    click.echo(f"kernel: Linux {os.uname().release}, this machine's own", err=True)
    if note:
        click.echo(f"note: {note}", err=True)
    absent = local.left_out(checked, lab.compiler)
    for name, why in absent.items():
        click.echo(f"left out: {name}: {why}", err=True)
    if len(absent) == len(checked):
        raise UserError(f"--local: nothing of {named} can be tried on this machine's own kernel")
    if not absent:
        return named
    words = interfaces.names() if named == "all" else [one.strip() for one in named.split(",")]
    each = zip(dict.fromkeys(filter(None, words)), checked, strict=True)
    return ",".join(word for word, one in each if one.name not in absent)


@cli.command("conformance")
@_options("abi", "accel", "battery", "jobs", "mirror")
@click.option(
    "--report",
    type=click.Path(path_type=Path, file_okay=False),
    default=f"{REPORT_DIR}/conformance",
    show_default=True,
    help="Where the run's output goes.",
)
@click.option(
    "--kernel",
    "several",
    default="6.12,6.1",
    show_default=True,
    help="Series of vm/kernels.toml, several with commas.",
)
@click.option(
    "--interfaces",
    "named",
    default="",
    help="Only these names of harness/interfaces, several with commas.",
)
@click.option(
    "--page",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the table, without links into the report, there too: docs/interfaces.md.",
)
@click.option(
    "--merge",
    type=click.Path(path_type=Path),
    help="Run nothing: one table, in this directory, out of the reports below it.",
)
@click.argument("pytest_args", nargs=-1, type=click.UNPROCESSED)
def conformance_of_linux(
    several: str,
    named: str,
    battery: str,
    report: Path,
    page: Path | None,
    merge: Path | None,
    pytest_args: tuple[str, ...],
    **asked: Any,
) -> None:
    """Put Linux's own interfaces to the test on kernels without a patch of ours."""
    from harness.report import conformance as tables  # noqa: PLC0415 - nothing else needs it

    own = named or ",".join(interfaces.own())
    interfaces.load_several(own)
    report = merge or report
    setups = [
        _setup(**asked, kernel=one, variant="conformance", report=report / f"linux-{one}")
        for one in (name.strip() for name in several.split(","))
        if one
    ]
    worst = 0
    if merge is not None:
        for setup in setups:
            if not (setup.report / records.FILE).exists():
                click.echo(f"Linux {setup.kernel}: no report in {setup.report}", err=True)
                worst = 1
        setups = [one for one in setups if (one.report / records.FILE).exists()]
        if not setups:
            raise UserError(f"--merge {merge}: there is no report of any kernel in it")
    runs = []
    for setup in setups:
        if merge is None:
            lab = Lab(setup)
            _prepare(lab)
            # The tests' own words say all; pytest's would have each file parsed anew for them.
            args = [sys.executable, "-m", "pytest", str(BATTERY_TESTS), str(KSELFTESTS), "-q"]
            args += ["--tb=native", "--prove", *_pytest_options(setup, battery), "--contract", own]
            needs = sidebyside.CORES if battery == "full" else sidebyside.CORES_IN_TURN
            shared = len(own.split(","))
            args += sidebyside.options(pytest_args, lab.accel.kind, kernels=shared, needs=needs)
            args += pytest_args
            proc.show(args)
            code = subprocess.call(args)
            if code not in (0, 1):
                raise SystemExit(code)
            worst = max(worst, code)
        runs.append(tables.load(setup.kernel, setup.report))
        worst = max(worst, bool(tables.broken(runs[-1]) or runs[-1].gone))
    abis = list(dict.fromkeys(abi.name for setup in setups for abi in setup.abis))
    for line in (line for one in runs for line in tables.lacking(one, abis)):
        click.echo(f"only theirs: {line}", err=True)
        worst = max(worst, 1)
    for path in tables.write(runs, abis, report, page=page):
        click.echo(f"table: {path}")
    raise SystemExit(worst)


def _pytest(args: list[str], *, powerless: bool = False) -> NoReturn:
    """Become pytest, which wants to import the plugin by itself."""
    argv = [sys.executable, "-m", "pytest", *args]
    if powerless:
        argv = local.unprivileged(argv)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execvp(argv[0], argv)


def _pytest_options(setup: Setup, battery: str) -> list[str]:
    """What was asked for, as the plugin's options."""
    args = ["--kernel", setup.kernel, "--variant", setup.variant]
    args += ["--accel", setup.accel, "--battery", battery]
    args += ["--report", str(setup.report), f"--junitxml={setup.report / 'junit.xml'}"]
    args += ["--abi", ",".join(one.name for one in setup.abis)]
    for name in ("kernel_tree", "mirror", "jobs", "bzimage", "headers"):
        value = getattr(setup, name)
        if value is not None:
            args += [f"--{name.replace('_', '-')}", str(value)]
    if setup.ltp:
        args += ["--ltp", ":".join(map(str, setup.ltp))]
    for path in setup.patches:
        args += ["--patch", str(path)]
    return [*args, "--local"] if setup.local else args


def _prepare(lab: Lab, *contracts: Contract) -> None:
    """Everything that a run needs, and one line that says what it is."""
    for contract in contracts:
        lab.check_headers(contract)
    if lab.setup.bzimage:
        _ = lab.programs
        click.echo(f"kernel: {lab.setup.bzimage}; accelerator: {lab.accel}", err=True)
        return
    built = lab.built
    how = "from the cache" if built.cached else f"built, {built.seconds_cpu:.0f} s of CPU time"
    click.echo(f"kernel: {built.release}, {how} ({built.directory.name})", err=True)
    lab.prepare()
    click.echo(f"accelerator: {lab.machine}", err=True)


@cli.command("skew")
@click.option("--kernel", "kernel", multiple=True, help="Only these (default: every series).")
@click.option("--variant", "variant", multiple=True, help="Only these (default: every one).")
@_options("abi", "accel", "jobs", "mirror")
@click.option(
    "--report",
    type=click.Path(path_type=Path, file_okay=False),
    default=f"{REPORT_DIR}/skew",
    show_default=True,
    help="Where the run's output goes.",
)
@click.option(
    "--merge",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Run nothing: one table out of the reports below this directory.",
)
@click.option(
    "--battery",
    type=click.Choice(["quick", "full"]),
    help="With --merge: that battery's results on each kernel belong to the table.",
)
@click.argument("pytest_args", nargs=-1, type=click.UNPROCESSED)
def old_and_new(
    kernel: tuple[str, ...],
    variant: tuple[str, ...],
    merge: tuple[Path, ...],
    battery: str | None,
    pytest_args: tuple[str, ...],
    **asked: Any,
) -> None:
    """Run programs of every age on kernels of every age, in each ABI."""
    chosen = skew_labs.ages(kernel, variant)
    setup = _setup(kernel=chosen[0].kernel, **asked)
    if merge:
        keys = skew_finish.wanted(chosen, setup.abis, battery=battery)
        whole = skew_finish.finish(merge, report=setup.report, ages=chosen, keys=keys)
        console = Console()
        shown = skew_show.terminal(
            whole.matrix, width=max(100, console.width), color=console.is_terminal
        )
        click.echo(shown, nl=False)
        click.echo(f"table: {setup.report / skew_finish.HTML}")
        raise SystemExit(whole.verdict.value)
    kernelset.run(
        [
            member
            for age in chosen
            for member in kernelset.members(
                rows=[kernels.kernel(age.kernel)],
                variants=[kernels.variant(age.variant)],
                jobs=setup.jobs,
                mirror=setup.mirror,
            )
        ],
        Console(),
    )
    made = [SkewLab(setup, age) for age in chosen]
    for lab in made:
        lab.prepare()
    spread = sidebyside.options(pytest_args, made[0].accel.kind, kernels=len(chosen))
    skew_results.forget(setup.report)
    named = [word for age in chosen for word in ("--skew-kernel", age.name)]
    _pytest([str(SKEW_TESTS), *named, *_pytest_options(setup, "quick"), *pytest_args, *spread])


@cli.command("host-test")
@click.argument("pytest_args", nargs=-1, type=click.UNPROCESSED)
def host_test(pytest_args: tuple[str, ...]) -> None:
    """Run the tests that need no guest, lint and types included."""
    _pytest([HOST_TESTS, *sidebyside.by_file(pytest_args), *pytest_args])


@cli.command("guest-test")
@_options("kernel", "variant", "kernel_tree", "accel", "jobs", "mirror")
@click.argument("pytest_args", nargs=-1, type=click.UNPROCESSED)
def guest_test(pytest_args: tuple[str, ...], **asked: Any) -> None:
    """Run the tests of the harness itself on guests: killed, hung, panicked."""
    lab = Lab(_setup(**asked))
    _prepare(lab)
    args = ["--kernel", lab.setup.kernel, "--variant", lab.setup.variant]
    args += ["--accel", lab.setup.accel]
    _pytest([GUEST_TESTS, *args, *pytest_args])


@cli.command()
@_options("kernel", "variant", "kernel_tree", "jobs", "mirror")
def kernel(**asked: Any) -> None:
    """Build the kernel, unless the cache has it."""
    built = Lab(_setup(**asked)).built
    click.echo(built.directory)


@cli.command("kernels")
@click.option("--kernel", help="Only this one.")
@click.option("--variant", help="Only this one.")
@_options("jobs", "mirror")
def every_kernel(
    kernel: str | None, variant: str | None, jobs: int | None, mirror: str | None
) -> None:
    """Build every kernel with every version of the sample, unless the cache has it."""
    wanted = kernelset.members(
        rows=[kernels.kernel(kernel)] if kernel else (),
        variants=[kernels.variant(variant)] if variant else (),
        jobs=jobs,
        mirror=mirror,
    )
    kernelset.run(wanted, Console())


@cli.command()
@_options("kernel", "mirror")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=SERIES_DIR,
    show_default=True,
    help="Where they go, below a directory for the kernel.",
)
def series(kernel: str | None, mirror: str | None, output: Path) -> None:
    """Write the mails of the series for a kernel: cover letters, patches, who gets a copy."""
    bench = _bench(kernel, report=output, mirror=mirror)
    where = bench.report
    for thread in mails.write(bench, where):
        click.echo(thread.cover.parent)


@cli.command("record")
def record_page() -> None:
    """Write docs/document.md from docs/document.toml."""
    record.PAGE.write_text(record.render(record.load()), encoding="utf-8")
    click.echo(record.PAGE)


@cli.command("series-check")
@_options("kernel", "jobs", "mirror")
@click.option(
    "--report",
    type=click.Path(path_type=Path, file_okay=False),
    default=SERIES_CHECK_DIR,
    show_default=True,
    help="Where logs and the record go, below a directory for the kernel.",
)
@click.argument("checks", nargs=-1)
def series_check(
    kernel: str | None,
    jobs: int | None,
    mirror: str | None,
    report: Path,
    checks: tuple[str, ...],
) -> None:
    """Check the series for a kernel as a reviewer would: all CHECKS, or those named."""
    bench = _bench(kernel, report=report, mirror=mirror, jobs=jobs)
    results = run.run(bench, checks)
    click.echo(f"Linux {bench.kernel.name}: {run.summary(results)}; {bench.report}")
    sys.exit(any(one.result == "failed" for one in results))


def _bench(
    kernel: str | None, *, report: Path, mirror: str | None, jobs: int | None = None
) -> reviews.Bench:
    row = kernels.kernel(kernel or kernels.DEFAULT_KERNEL)
    return reviews.Bench(
        kernel=row,
        table=table.load(),
        report=report.resolve() / row.name,
        jobs=jobs or len(os.sched_getaffinity(0)),
        mirror=mirror,
    )


@cli.command()
@_options("kernel", "variant", "kernel_tree", "abi", "jobs", "mirror")
def callers(**asked: Any) -> None:
    """Build the callers and the agent, against the headers of a kernel that is not built."""
    setup = _setup(**asked)
    headers = build.headers(
        setup.kernel,
        variant=setup.variant,
        kernel_tree=setup.kernel_tree,
        mirror=setup.mirror,
        jobs=setup.jobs,
        cache=setup.cache,
    )
    programs = Lab(dataclasses.replace(setup, headers=headers)).programs
    for path in (programs.agent, *programs.callers.values()):
        click.echo(path)


@cli.command("shell")
@_options("kernel", "variant", "kernel_tree", "accel", "jobs", "mirror")
def guest_shell(**asked: Any) -> None:
    """Open a shell in the guest, on this machine's own root, read-only."""
    lab = Lab(_setup(**asked))
    _prepare(lab)
    shell.interactive(
        lab.image,
        lab.accel,
        cache=lab.setup.cache,
        programs=lab.programs.agent.parent,
        overlay="CONFIG_OVERLAY_FS=y" in lab.built.config.read_text().splitlines(),
    )


@cli.command("doctor")
@_options("kernel", "kernel_tree")
def tell(kernel: str, kernel_tree: Path | None) -> None:
    """Say what this machine can do, and how to mend what is missing."""
    row = kernels.kernel(kernel or kernels.DEFAULT_KERNEL)
    setup = _setup(kernel=row.name)
    checks = doctor.report(
        kernel=row.name,
        tree=kernel_tree,
        cache=setup.cache,
        prove_kvm=_kvm_prover(setup.cache),
    )
    raise SystemExit(doctor.show(checks, Console()))


def _kvm_prover(cache: Path) -> Callable[[], tuple[bool, str]] | None:
    """Whether a kernel boots under KVM here, asked of the newest one in the cache, if any."""
    images = sorted(cache.glob("kernels/*/vmlinux"), key=lambda path: path.stat().st_mtime)
    if not images:
        return None

    def prove() -> tuple[bool, str]:
        chosen = accel.choose("auto", images[-1], cache=cache)
        return chosen.kind == "kvm", chosen.reason

    return prove


@cli.command()
@_options("kernel", "variant", "kernel_tree", "accel", "battery", "jobs", "mirror")
@click.option(
    "--cold",
    is_flag=True,
    help="Only this: every kernel of every series, built into an empty cache.",
)
def bench(cold: bool, battery: str, **asked: Any) -> None:
    """Measure boot, round trip, sweep and builds, each beside its alternative in one run."""
    from harness import bench as benches  # noqa: PLC0415 - nothing else needs it
    from harness.kselftests import bench as of_linux  # noqa: PLC0415 - nor this
    from harness.mutants import bench as of_mutants  # noqa: PLC0415 - nor this
    from harness.skew import bench as of_every_age  # noqa: PLC0415 - nor this

    lab = Lab(_setup(**asked))
    if cold:
        of_every_age.run_cold(lab.setup)
        return
    _prepare(lab)
    cpus = full_battery_cpus()
    full = Lab(dataclasses.replace(lab.setup, cpus=cpus)) if battery == "full" else None
    try:
        benches.run(
            lab,
            lambda one: [
                *of_every_age.figures(one),
                *of_mutants.figures(one),
                *of_linux.figures(one),
            ],
            full=full,
        )
    finally:
        lab.close()


def _shard(
    _context: click.Context, _option: click.Parameter, value: str | None
) -> tuple[int, int] | None:
    """`2/4` as numbers."""
    if value is None:
        return None
    number, _, of = value.partition("/")
    if not (number.isdecimal() and of.isdecimal()):
        raise click.BadParameter(f"{value}: 2/4 is the second of four parts")
    return int(number), int(of)


@cli.command()
@_options("kernel", "kernel_tree", "abi", "accel", "jobs", "mirror", "report")
@click.option("--mutant", multiple=True, help="Only these, by number or name.")
@click.option(
    "--without", multiple=True, metavar="P3", help="Judge as if the battery lacked this property."
)
@click.option(
    "--sample", type=click.IntRange(min=1), help="So many, others with every change of content."
)
@click.option(
    "--repeat",
    type=click.IntRange(min=1),
    default=1,
    help="Only the named property, so many times: a race has to be caught every time.",
)
@click.option(
    "--shard", callback=_shard, metavar="2/4", help="One part of them: the second of four."
)
@click.option("--fresh", is_flag=True, help="Run them all: no result that is kept counts.")
def mutants(
    mutant: tuple[str, ...],
    without: tuple[str, ...],
    sample: int | None,
    repeat: int,
    shard: tuple[int, int] | None,
    fresh: bool,
    **asked: Any,
) -> None:
    """Put faults into the sample, one at a time, and see that each is noticed."""
    from harness.mutants import command  # noqa: PLC0415 - nothing else needs it

    setup = _setup(**asked)
    raise SystemExit(
        command.main(
            setup,
            asked=mutant,
            without=without,
            sample=sample,
            repeat=repeat,
            shard=shard,
            fresh=fresh,
        )
    )


@cli.command("coverage")
@_options("kernel", "accel", "battery", "jobs", "mirror", "report")
@click.argument("pytest_args", nargs=-1, type=click.UNPROCESSED)
def executed(battery: str, pytest_args: tuple[str, ...], **asked: Any) -> None:
    """Run the battery on a kernel that counts: which lines of the sample are executed."""
    from harness.report import coverage  # noqa: PLC0415 - nothing else needs it

    setup = _setup(**asked, variant="coverage")
    lab = Lab(setup)
    _prepare(lab)
    shutil.rmtree(setup.report / coverage.COUNTS, ignore_errors=True)
    args = [sys.executable, "-m", "pytest", str(BATTERY_TESTS), TARGET_TESTS, "-q", "--coverage"]
    args += [*_pytest_options(setup, battery), *pytest_args]
    proc.show(args)
    code = subprocess.call(args)
    if code not in (0, 1):
        raise SystemExit(code)
    raise SystemExit(max(code, coverage.report(lab.built, setup.report)))


@cli.command("mutants-harness")
@click.option("--mutant", multiple=True, help="Only these, by name.")
def mutants_harness(mutant: tuple[str, ...]) -> None:
    """Put faults into the harness itself, one at a time, and see that its tests notice."""
    from harness.mutants import edits  # noqa: PLC0415 - nothing else needs it

    raise SystemExit(edits.main(mutant))


def _terminated(signum: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + signum)


def main() -> None:
    """Run the command line; one line and the right exit code for every known fault."""
    # `timeout` and CI runners end a run with SIGTERM: what it started goes with it, as at Ctrl-C.
    signal.signal(signal.SIGTERM, _terminated)
    try:
        cli(standalone_mode=False)
    except click.exceptions.Exit as exc:
        sys.exit(exc.exit_code)
    except click.ClickException as exc:
        click.echo(f"error: {exc.format_message()}", err=True)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(130)
    except HarnessError as exc:
        label = "error" if isinstance(exc, UserError) else exc.verdict.label
        first, *rest = exc.lines()
        click.echo("\n".join([f"{label}: {first}", *rest]), err=True)
        sys.exit(exc.exit_code)
