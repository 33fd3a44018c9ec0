# SPDX-License-Identifier: GPL-2.0-only
"""What it costs, each figure beside its alternative in one run.

    boot        our guest to its first answer, against bare QEMU on the same
                kernel with a one-file initramfs that answers on the same port
    round trip  one call, asked for and answered, from the host
    sweep       calls made by a sweep, against a bare C loop of the same calls
    battery     the quick battery in every ABI, on a guest that has just booted; the full
                one with BATTERY=full
    cost        a sweep's time over its number of calls, as a plot
    build       the kernel's CPU time, as recorded when it was built
    ages        a further variant, and the matrix of old and new: harness/skew/bench.py
    Linux's     every interface of Linux's own, and openat2_test: harness/kselftests/bench.py

Pairs are run in turn (A B A B …), so that a machine whose speed drifts does
not favour one of them.  No test asserts any of this: figures are for people.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import resource
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from harness.batteries import BATTERY, Level
from harness.channel import Channel
from harness.contract import PAGE
from harness.interface import Interface
from harness.interfaces.xyzzy import CONTRACT
from harness.lab import BOOT_SECONDS, PORT, Lab
from harness.program import ARENA, Program, at
from harness.report import plot
from harness.sweep import Dim, Kind, Sweep
from vm import proc
from vm.deadline import Deadline
from vm.errors import InfraError

BOOTS = 7
TRIPS = 500
LOOP_CALLS = 200_000
LINEAR = (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000)
ROUNDS = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured thing: the samples of ours and of the alternative."""

    name: str
    unit: str
    ours: tuple[float, ...]
    other: tuple[float, ...] = ()
    other_is: str = ""

    @property
    def ratio(self) -> float | None:
        """Median of ours over median of the alternative."""
        if not self.other:
            return None
        return statistics.median(self.ours) / statistics.median(self.other)


def _one_file_cpio(program: Path) -> bytes:
    """An initramfs in the newc format with one file: /init.

    Documentation/driver-api/early-userspace/buffer-format.rst.
    """

    def entry(name: str, mode: int, data: bytes) -> bytes:
        fields = (1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields)
        head += name.encode() + b"\0"
        head += b"\0" * (-len(head) % 4)
        return head + data + b"\0" * (-len(data) % 4)

    return entry("init", 0o100755, program.read_bytes()) + entry("TRAILER!!!", 0, b"")


@contextlib.contextmanager
def _bare_guest(lab: Lab, initramfs: Path) -> Iterator[float]:
    """Bare QEMU; yields the seconds from its start to the agent's first frame."""
    accelerator = ["-cpu", "host"] if lab.accel.kind == "kvm" else ["-cpu", "max"]
    with tempfile.TemporaryDirectory(prefix="extsys-") as directory:
        path = Path(directory) / "port"
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(path))
        server.listen(1)
        server.settimeout(BOOT_SECONDS)
        argv = ["qemu-system-x86_64", "-machine", f"q35,accel={lab.accel.kind}", *accelerator]
        argv += ["-m", str(lab.setup.memory), "-smp", str(lab.setup.cpus), "-no-reboot"]
        argv += ["-display", "none", "-vga", "none", "-net", "none", "-serial", "null"]
        argv += ["-kernel", str(lab.image), "-initrd", str(initramfs)]
        argv += ["-append", "console=ttyS0 quiet panic=-1"]
        argv += ["-chardev", f"socket,id=port,path={path}", "-device", "virtio-serial-pci"]
        argv += ["-device", f"virtserialport,name={PORT},chardev=port"]
        start = time.monotonic()
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            with server, server.accept()[0] as connection:
                channel = Channel(connection)
                channel.hello(Deadline.after(BOOT_SECONDS, "bare QEMU's first frame"))
                yield time.monotonic() - start
        except TimeoutError as exc:
            raise InfraError(f"bare QEMU: no answer within {BOOT_SECONDS:g} s") from exc
        finally:
            proc.end_group(child)


def _boots(lab: Lab) -> Figure:
    ours, bare = [], []
    with tempfile.NamedTemporaryFile(prefix="extsys-", suffix=".cpio") as initramfs:
        initramfs.write(_one_file_cpio(lab.programs.agent))
        initramfs.flush()
        _ = lab.root, lab.accel
        for _ in range(BOOTS):
            with _bare_guest(lab, Path(initramfs.name)) as seconds:
                bare.append(seconds)
            lab.restart()
            start = time.monotonic()
            lab.target()
            ours.append(time.monotonic() - start)
    return Figure(
        name="boot to the first answer",
        unit="s",
        ours=tuple(ours),
        other=tuple(bare),
        other_is="bare QEMU, one-file initramfs",
    )


def _interfaces(lab: Lab) -> list[Interface]:
    target = lab.target()
    return [
        Interface(CONTRACT, abi, compiler=lab.compiler, target=target) for abi in lab.setup.abis
    ]


def _round_trips(interface: Interface) -> Figure:
    program = Program()
    program.syscall(interface.number("getpid"))
    samples = []
    for _ in range(TRIPS):
        start = time.monotonic()
        interface.caller.run(program, deadline_ms=0)
        samples.append((time.monotonic() - start) * 1e3)
    return Figure(name=f"round trip, {interface.abi.name}", unit="ms", ours=tuple(samples))


def _rates(name: str, ours: Callable[[], float], other: Callable[[], float]) -> Figure:
    pairs = [(ours(), other()) for _ in range(ROUNDS)]
    return Figure(
        name=name,
        unit="calls/s",
        ours=tuple(pair[0] for pair in pairs),
        other=tuple(pair[1] for pair in pairs),
        other_is="bare C loop",
    )


def _early_refusal(interface: Interface) -> Figure:
    """The cheapest call there is: refused for its flags, before anything is read."""
    rule = Sweep(
        dims=(Dim(kind=Kind.ARG, index=1, start=4, stop=4 + LOOP_CALLS),),
        usize=interface.ksize,
        template=interface.template(),
    )

    def sweep() -> float:
        result = interface.sweep(rule)
        return result.calls / result.nanoseconds * 1e9

    def loop() -> float:
        return (
            LOOP_CALLS
            / interface.caller.loop(interface.number(CONTRACT.number), [0, 4], LOOP_CALLS)
            * 1e9
        )

    return _rates(f"sweep, refused flags, {interface.abi.name}", sweep, loop)


def _tails(interface: Interface) -> Figure:
    """Every trailing bit at a page: the sweep that the battery is made of."""
    rule = Sweep(
        dims=(
            Dim(kind=Kind.TAIL, start=interface.ksize, stop=0),
            Dim(kind=Kind.BIT, start=0, stop=8),
        ),
        usize=PAGE,
        template=interface.template(),
    )
    count = (PAGE - interface.ksize) * 8

    def sweep() -> float:
        result = interface.sweep(rule)
        return result.calls / result.nanoseconds * 1e9

    def loop() -> float:
        # The same call with its bit halfway, where the sweep's are on average.
        memory = bytearray(interface.example(usize=PAGE))
        memory[(PAGE + interface.ksize) // 2] = 1
        program = Program()
        program.reset()
        program.write(ARENA, PAGE, bytes(memory))
        interface.caller.run(program)
        nanoseconds = interface.caller.loop(
            interface.number(CONTRACT.number),
            [at(ARENA, PAGE), 0],
            count,
            poke=(PAGE, PAGE),  # xyzzy's size is its first field,
        )
        return count / nanoseconds * 1e9

    return _rates(f"sweep, trailing bits, {interface.abi.name}", sweep, loop)


def _battery(lab: Lab, level: Level) -> list[Figure]:
    """The battery in every ABI, as pytest runs it, on a guest that has just booted.

    What is compiled for it is a part of it; of the host's own CPU time there is a row.
    """
    lab.restart()
    interfaces = _interfaces(lab)
    target = lab.target()
    start, cpu, calls = time.monotonic(), time.process_time(), target.calls
    for item in BATTERY:
        for interface in interfaces:
            if item.unless(CONTRACT, interface.abi) is None:
                with contextlib.suppress(pytest.skip.Exception):
                    item.run(interface, level)
    seconds, cpu = time.monotonic() - start, time.process_time() - cpu
    abis = ", ".join(interface.abi.name for interface in interfaces)
    name = f"{'full' if level.full else 'quick'} battery, {abis}"
    made = f"{target.calls - calls:,} calls"
    return [
        Figure(name=name, unit="s", ours=(seconds,), other_is=made),
        Figure(name=f"{name}: the host's CPU", unit="s", ours=(cpu,)),
    ]


def _cost(interface: Interface) -> list[tuple[int, float]]:
    """(calls, seconds) of sweeps of growing length: the cost of a call must not grow with them."""
    found = []
    for count in LINEAR:
        rule = Sweep(
            dims=(Dim(kind=Kind.ARG, index=1, start=4, stop=4 + count),),
            usize=interface.ksize,
            template=interface.template(),
        )
        result = interface.sweep(rule)
        found.append((result.calls, result.nanoseconds / 1e9))
    return found


def _per_abi(interface: Interface) -> Iterator[Figure]:
    yield _round_trips(interface)
    yield _early_refusal(interface)
    yield _tails(interface)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _spread(samples: Sequence[float]) -> str:
    if not samples:
        return ""
    low, middle, high = min(samples), statistics.median(samples), max(samples)
    return f"{_number(middle)} ({_number(low)} … {_number(high)})"


def machine() -> str:
    """One line that says where this was measured."""
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores of {cpu}"


def run(
    lab: Lab, more: Callable[[Lab], Sequence[Figure]] = lambda _: (), *, full: Lab | None = None
) -> None:
    """Measure everything and print it; the samples go to bench.json.

    ``full`` is for the full battery, where it is asked for: its guest has more CPUs.
    ``more`` measures what is not about one guest, at the end.
    """
    figures = [_boots(lab), *_battery(lab, Level())]
    for interface in _interfaces(lab):
        figures += _per_abi(interface)
    cost = _cost(_interfaces(lab)[0])
    if full is not None:
        lab.restart()
        with contextlib.closing(full):
            figures += _battery(full, Level(full=True))
    figures += more(lab)
    grid = Table(title=f"{machine()}; {lab.accel.kind}", title_justify="left")
    for column in ("figure", "unit", "ours: median (min … max)", "alternative", "ratio"):
        grid.add_column(column)
    for one in figures:
        ratio = "" if one.ratio is None else f"{one.ratio:.2f}"
        other = f"{_spread(one.other)} {one.other_is}".strip()
        grid.add_row(one.name, one.unit, _spread(one.ours), other, ratio)
    record = lab.built.record
    grid.add_row(
        "kernel build",
        "s",
        f"{record['seconds_cpu']:.0f} CPU, {record['seconds_wall']:.0f} on the clock",
        "onto objects that were there" if record["incremental"] else "from nothing",
        "",
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    grid.add_row("host side, peak memory", "MiB", f"{peak:.0f}", "", "")
    Console(width=150).print(grid)
    for calls, seconds in cost:
        print(f"{calls:>10,} calls  {seconds:7.3f} s  {seconds / calls * 1e9:7.0f} ns a call")
    lab.setup.report.mkdir(parents=True, exist_ok=True)
    title = f"A sweep's time over its calls; {machine()}; {lab.accel.kind}"
    (lab.setup.report / "cost.svg").write_text(plot.svg(cost, title))
    data = {
        "machine": machine(),
        "accelerator": str(lab.accel),
        "cost": cost,
        "figures": [dataclasses.asdict(one) for one in figures],
        "build": record,
    }
    (lab.setup.report / "bench.json").write_text(json.dumps(data, indent=1) + "\n")
