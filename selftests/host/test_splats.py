# SPDX-License-Identifier: GPL-2.0-only
"""harness.splats, harness.battery_kernel: which call it was, and what was left behind."""

from __future__ import annotations

import dataclasses
import itertools
import time
from types import SimpleNamespace
from typing import cast

import pytest

from harness import abi, splats
from harness import battery_kernel as kernel
from harness import sweep as sweeps
from harness.battery_kernel import Held
from harness.case import Case
from harness.interface import Interface
from harness.interfaces import xyzzy
from harness.splats import Asked, Request, SplatError
from harness.sweep import Dim, Kind, Place, Point, Sweep
from vm.console import Log

CONTRACT = xyzzy.CONTRACT
M64, M32 = abi.abi("m64"), abi.abi("m32")
BITS = Dim(kind=Kind.BIT, start=0, stop=8)
SIZES = Dim(kind=Kind.USIZE, start=20, stop=45)
TAIL = Dim(kind=Kind.TAIL, start=24, stop=0)

RULES = {
    "sizes": Sweep(dims=(SIZES,)),
    "one size": Sweep(dims=(dataclasses.replace(SIZES, stop=21),)),
    "no size": Sweep(dims=(dataclasses.replace(SIZES, stop=20),)),
    "nothing": Sweep(dims=(), usize=24),
    "in steps": Sweep(dims=(dataclasses.replace(SIZES, step=7),)),
    "tails": Sweep(dims=(SIZES, TAIL, BITS)),
    "tails that lack a byte": Sweep(dims=(SIZES, TAIL), place=Place.SHORT),
    "a tail": Sweep(dims=(TAIL, BITS), usize=31),
    "flags": Sweep(dims=(Dim(kind=Kind.ARG_BIT, index=1, start=0, stop=32),), usize=24),
    "moved": Sweep(dims=(Dim(kind=Kind.SHIFT, start=0, stop=16), SIZES)),
}


def all_points(rule: Sweep) -> list[Point]:
    return list(sweeps.points(rule, CONTRACT))


@pytest.mark.parametrize("name", RULES)
def test_two_halves_make_the_same_calls(name: str) -> None:
    rule = RULES[name]
    parts = splats.halves(rule, CONTRACT)
    whole = all_points(rule)
    if len(whole) > 1 and name != "tails":
        assert len(parts) == 2
        assert all(all_points(part) for part in parts)
    assert [point for part in parts for point in all_points(part)] == whole


@pytest.mark.parametrize(
    ("name", "index"), [("sizes", 0), ("sizes", 24), ("tails", 777), ("a tail", 12), ("moved", 33)]
)
def test_a_sweep_is_narrowed_to_the_call(name: str, index: int) -> None:
    """Whichever it is, and although most of the calls are made again and again."""
    rule = RULES[name]
    guilty = all_points(rule)[index]
    tried = []

    def again(part: Asked) -> bool:
        assert part.rule is not None
        tried.append(part.count)
        return guilty in all_points(part.rule)

    asked = Asked(contract=CONTRACT, abi=M64, rule=rule)
    found = splats.narrow(asked, again)
    assert found.rule is not None
    assert all_points(found.rule) == [guilty]
    assert splats.single(found) == sweeps.case_of(rule, CONTRACT, guilty)
    assert len(tried) < splats.MOST_STEPS


def test_what_is_said_only_once_is_not_narrowed() -> None:
    asked = Asked(contract=CONTRACT, abi=M64, rule=RULES["sizes"])
    assert splats.narrow(asked, lambda part: False) == asked
    assert splats.single(asked) is None


def test_single_calls_are_narrowed_as_well() -> None:
    several = tuple(Case(usize=size, memory=bytes(size)) for size in range(24, 40))
    asked = Asked(contract=CONTRACT, abi=M64, several=several)
    found = splats.narrow(asked, lambda part: any(one.usize == 37 for one in part.several))
    assert splats.single(found) == several[13]


REPORT = """\
[   10.1] BUG: KASAN: slab-out-of-bounds in xyzzy_create+0x120/0x140
[   10.1] RIP: 0010:xyzzy_create+0x1/0x2
[   10.1] RDX: 1111111111111111 RSI: 2222222222222222 RDI: 3333333333333333
[   10.1] RIP: 0033:0x43a230
[   10.1] RSP: 002b:00007ffe EFLAGS: 00000246 ORIG_RAX: 00000000000001cf
[   10.1] RAX: ffffffffffffffda RBX: 0000000000000007 RCX: 000000000043a230
[   10.1] RDX: 0000000000000000 RSI: 0000000000000002 RDI: ffff888000000000
[   10.1] RBP: 0000000000000001 R08: 0000000000000000 R09: 0000000000000000
""".splitlines()


def test_the_registers_are_the_program_s_own() -> None:
    found = splats.registers(REPORT)
    assert found["RDI"] == 0xFFFF_8880_0000_0000
    assert (found["RSI"], found["ORIG_RAX"], found["R08"]) == (2, 463, 0)
    assert splats.registers(REPORT[:3]) == {}


def test_registers_tell_calls_apart() -> None:
    cases = tuple(
        Case(usize=24, memory=bytes(24), pointer=pointer, flags=((1, flags),))
        for pointer, flags in itertools.product((0, 0xFFFF_8880_0000_0000), (0, 2))
    )
    asked = Asked(contract=CONTRACT, abi=M64, several=cases)
    assert splats.fitting(asked, splats.registers(REPORT)) == [cases[3]]
    # Nothing fits, or nothing is known: none is left out.
    assert splats.fitting(asked, {"RDI": 5}) == list(cases)
    assert splats.fitting(asked, {}) == list(cases)
    # A 32-bit program has its arguments elsewhere.
    narrow = Case(usize=24, memory=bytes(24), pointer=7)
    other = dataclasses.replace(narrow, pointer=8)
    asked = Asked(contract=CONTRACT, abi=M32, several=(narrow, other))
    seen = {**splats.registers(REPORT), "RCX": 0}
    assert splats.fitting(asked, seen) == [narrow]


def test_a_report_belongs_to_the_mark_before_it() -> None:
    log = Log()
    text = """\
[   10.000001] extsys-mark: begin a test
[   10.000002] extsys-mark: request 41
[   10.000003] a driver says something
[   10.000004] extsys-mark: request 42
[   10.000005] ------------[ cut here ]------------
[   10.000006] WARNING: CPU: 0 PID: 31 at kernel/xyzzy.c:52 __do_sys_xyzzy+0x60/0x140
[   10.000007] ---[ end trace 0000000000000000 ]---
[   10.000008] extsys-mark: request 43
[   10.000009] BUG: KASAN: use-after-free in xyzzy_read_iter+0x60/0x140
"""
    log.feed(text.encode())
    log.end()
    numbers = [splats.request_of(event, log.lines) for event in log.events]
    assert numbers == [42, 43]
    log.events[0].first = 2
    assert splats.request_of(log.events[0], log.lines) is None


def test_the_call_in_words() -> None:
    def describe(case: Case) -> str:
        return f"usize {case.usize}"

    one, other = (Case(usize=size, memory=b"") for size in (24, 25))
    asked = Asked(contract=CONTRACT, abi=M32, several=(one,))
    request = Request(number=3, what="PROGRAM", asked=asked)
    assert splats.words(request, asked, describe) == "m32: xyzzy(): usize 24"
    both = dataclasses.replace(asked, several=(one, other))
    assert splats.words(request, both, describe) == (
        "m32: xyzzy(): one of 2 calls: usize 24 … usize 25"
    )
    rule = Asked(contract=CONTRACT, abi=M64, rule=RULES["sizes"])
    assert splats.words(request, rule, describe) == (
        "m64: xyzzy(): one of the 25 calls of a sweep that begins at usize 20"
    )
    assert splats.words(request, None, describe) == "request 3, a PROGRAM"
    assert splats.words(None, None, describe) == "no request of this run came before it"


LEAKS = """\
unreferenced object 0xffff888003a1c000 (size 192):
  comm "caller-m32", pid 31, jiffies 4294893000
  hex dump (first 32 bytes):
    18 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................
  backtrace (crc 8f1b2e34):
    [<00000000a1b2c3d4>] __kmalloc_cache_noprof+0x1d/0x30
    [<00000000b1b2c3d4>] xyzzy_create+0x44/0x140
unreferenced object 0xffff888003a1d000 (size 24):
  comm "kworker/0:1", pid 9, jiffies 4294893001
  backtrace (crc 0):
    kmalloc_trace+0x1d/0x30
"""


def test_what_kmemleak_says() -> None:
    first, second = kernel.leaks(LEAKS)
    assert (first.size, first.comm) == (192, "caller-m32")
    assert first.trace == ("__kmalloc_cache_noprof+0x1d/0x30", "xyzzy_create+0x44/0x140")
    assert "192 bytes, allocated for caller-m32 by __kmalloc" in str(first)
    assert (second.size, second.trace) == (24, ("kmalloc_trace+0x1d/0x30",))
    assert kernel.leaks("") == []


@pytest.mark.parametrize(
    ("now", "grown"),
    [
        (Held(slab=1000, taken=50_000, files=100), None),
        (Held(slab=1390, taken=52_048, files=164), None),
        (Held(slab=1391, taken=50_000, files=100), "the slab grew by 391 KiB"),
        (Held(slab=0, taken=52_049, files=100), "memory in use grew by 2,049 KiB"),
        (Held(slab=0, taken=0, files=165), "the number of open files grew by 65 files"),
    ],
)
def test_what_has_grown(now: Held, grown: str | None) -> None:
    before = Held(slab=1000, taken=50_000, files=100)
    assert now.beyond(before, kernel.may_grow(kernel.REFUSED_CALLS)) == grown


@pytest.mark.parametrize("times", [kernel.REFUSED_CALLS, kernel.QUICK_REFUSED_CALLS])
def test_the_smallest_leak_is_seen(times: int) -> None:
    """One object of the least size in each call is twice what may be, and a page far more."""
    most = kernel.may_grow(times)
    assert times * kernel.LEAST / 1024 > 2 * most.slab > 0
    # Of one of as many kinds as openat2 has refusals.
    assert times // 26 * 4 > 2 * most.taken > 0
    assert times // 26 > most.files > 0


def test_what_other_callers_have_lost_is_kept_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """kmemleak forgets all that it has told of at once; each ABI's test is to hear its own."""
    told = "".join(
        f"unreferenced object 0xffff888004125900 (size 64):\n"
        f'  comm "caller-{one.name}", pid 35, jiffies 4294900000\n'
        "  backtrace (crc 0):\n    kmalloc+0x1/0x2\n"
        for one in abi.ABIS
    )
    reports = [told, "", ""]

    class Kernel:
        def __init__(self) -> None:
            self.lost: list[tuple[str, str]] = []

        def write_file(self, path: str, data: bytes, *, seconds: float = 0.0) -> None:
            assert data in (b"scan", b"clear")

        def read_file(self, path: str) -> bytes:
            return reports.pop(0).encode()

    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    held = Kernel()
    for one in abi.ABIS:
        interface = cast("Interface", SimpleNamespace(target=held, abi=one, contract=CONTRACT))
        with pytest.raises(SplatError, match="1 objects") as caught:
            kernel.check_leaks(interface, kernel.REFUSED)
        assert f"caller-{one.name}" in caught.value.console_tail[0]
    assert held.lost == []


def test_kmemleak_looks_once_for_the_calls_of_all_abis() -> None:
    """And again for calls that were made since; for those of which nobody knows, in any case."""
    scans: list[bytes] = []

    class Kernel:
        lost: tuple[tuple[str, str], ...] = ()

        def write_file(self, path: str, data: bytes, *, seconds: float = 0.0) -> None:
            scans.append(data)

        def read_file(self, path: str) -> bytes:
            return b""

    held = Kernel()
    several = [
        cast("Interface", SimpleNamespace(target=held, abi=one, contract=CONTRACT))
        for one in abi.ABIS
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "sleep", lambda seconds: None)
        for one in several:
            kernel._made(one, kernel.REFUSED)
        for one in several:
            kernel.check_leaks(one, kernel.REFUSED)
        assert scans == [b"scan"] * 2
        kernel._made(several[0], kernel.REFUSED)
        kernel.check_leaks(several[1], kernel.REFUSED)
        assert len(scans) == 2
        kernel.check_leaks(several[0], kernel.REFUSED)
        assert len(scans) == 4
        kernel.check_leaks(several[1], kernel.FAILED)
        assert len(scans) == 6
