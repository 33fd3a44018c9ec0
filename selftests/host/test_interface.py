# SPDX-License-Identifier: GPL-2.0-only
"""harness.interface and the battery from end to end, on kernels that a test can break.

xyzzy() is played by fakexyzzy.py in a live caller; sched_setattr() is this
machine's own.  Model, sweeps, single calls and their comparison must find
nothing wrong with what is right, and each fault must be found.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
from collections.abc import Iterator, Mapping

import fakekernel
import fakexyzzy
import hosttarget
import pytest
from fakekernel import FakeKernel
from fakexyzzy import FakeXyzzy

from harness import sweep
from harness.abi import ABI
from harness.battery import BATTERY, Item, Level
from harness.contract import (
    PAGE,
    Nothing,
    Points,
    Tail,
)
from harness.findings import ContractBrokenError, Mismatch
from harness.identity import NOBODY, PEERS
from harness.interface import Interface
from harness.interfaces import xyzzy
from harness.interfaces.sched_setattr import CONTRACT as SCHED_SETATTR
from harness.layout import Compiler
from harness.sweep import Dim, Kind, Place, Sweep
from harness.target import Target

#: Properties that a kernel can break which answers one caller's calls and nothing else.
PLAYED = {*(f"P{number}" for number in range(1, 12)), "P17", "P19", "P20"}
#: Items with tens of thousands of calls: when a fault is looked for, they come last.
SLOW = ("one-byte-short", "every-size", "trailing-bits")


#: xyzzy(2) as it is, and with one version more, so that there are sizes between two.
CONTRACTS = {24: xyzzy.CONTRACT, 32: fakexyzzy.NEWER}

Compilers = Mapping[int, Compiler]


@pytest.fixture(scope="module")
def compilers(tmp_path_factory: pytest.TempPathFactory) -> Compilers:
    """With the headers of a kernel of each size."""
    where = tmp_path_factory.mktemp("include")
    return {
        ksize: Compiler(headers=fakexyzzy.headers(where / str(ksize), contract))
        for ksize, contract in CONTRACTS.items()
    }


@dataclasses.dataclass(frozen=True)
class Rig:
    """xyzzy() in a live caller, and the kernel that plays it."""

    kernel: FakeKernel
    interface: Interface

    def breaks(self, fault: str) -> Interface:
        """The interface, on a kernel with that fault."""
        contract = self.interface.contract
        self.kernel.answer = FakeXyzzy(
            self.kernel,
            fault=fault,
            ksize=self.interface.ksize,
            capability=contract.privileged[0].capability if contract.privileged else "",
            names=bool(contract.processes),
            points=sum(one.length for one in contract.pointers if isinstance(one, Points)),
        )
        return self.interface


@contextlib.contextmanager
def rigged(
    target: Target, one: ABI, compilers: Compilers, *, ksize: int = 24, fault: str = ""
) -> Iterator[Rig]:
    with fakekernel.fake_kernel(target, one) as kernel:
        made = Interface(CONTRACTS[ksize], one, compiler=compilers[ksize], target=target)
        rig = Rig(kernel, made)
        rig.breaks(fault)
        yield rig


@pytest.fixture(name="rig")
def _rig(local: Target, here: ABI, compilers: Compilers) -> Iterator[Rig]:
    with rigged(local, here, compilers) as rig:
        yield rig


@pytest.fixture(name="rig32")
def _rig32(local: Target, here: ABI, compilers: Compilers) -> Iterator[Rig]:
    with rigged(local, here, compilers, ksize=32) as rig:
        yield rig


def items(here: ABI, ksize: int) -> list[Item]:
    """What of the battery can be run on a fake kernel, in order of cost."""
    found = [
        item
        for item in BATTERY
        if item.prop in PLAYED and item.unless(CONTRACTS[ksize], here) is None
    ]
    assert len(found) > 10
    return sorted(found, key=lambda item: SLOW.index(item.name) if item.name in SLOW else -1)


def test_a_kernel_that_is_right_passes(local: Target, here: ABI, compilers: Compilers) -> None:
    """The battery at its quick level, but for the items with most calls."""
    first = here is hosttarget.running()[0]
    ksize = 32 if first else 24
    tried = set()
    with rigged(local, here, compilers, ksize=ksize) as rig:
        for item in items(here, ksize):
            # What this machine does not let us do is an item's own business, not the test's.
            with contextlib.suppress(pytest.skip.Exception):
                if item.name not in SLOW:
                    item.run(rig.interface, Level())
                    tried.add(item.prop)
    # P6 has one item, a slow one; P19 takes a caller that may become another.
    assert tried >= PLAYED - {"P6", "P19"}


@pytest.mark.parametrize(
    "fault", sorted(fakexyzzy.FAULTS.keys() - {*fakexyzzy.PRIVILEGE, *fakexyzzy.POINTERS})
)
def test_each_fault_is_found(local: Target, compilers: Compilers, fault: str) -> None:
    """In one ABI: the fault is not of a kind that differs between them."""
    here = hosttarget.running()[0]
    with rigged(local, here, compilers, ksize=32, fault=fault) as rig:
        for item in items(here, 32):
            try:
                with contextlib.suppress(pytest.skip.Exception):
                    item.run(rig.interface, Level())
            except AssertionError:
                return
    pytest.fail(f"{fakexyzzy.FAULTS[fault]}, and the battery is content")


@pytest.mark.parametrize("fault", fakexyzzy.PRIVILEGE)
def test_a_fault_of_privilege_is_one_of_p19(
    local: Target, compilers: Compilers, fault: str
) -> None:
    """By these items alone, and one that says who made the call."""
    here = hosttarget.running()[0]
    with rigged(local, here, compilers, ksize=32, fault=fault) as rig:
        found: list[Mismatch] = []
        for item in items(here, 32):
            if item.prop == "P19":
                try:
                    item.run(rig.interface, Level())
                except ContractBrokenError as exc:
                    found += exc.mismatches
    assert found
    assert all(one.case is not None and one.case.who is not None for one in found)


@contextlib.contextmanager
def pointing(
    target: Target, one: ABI, compilers: Compilers, fault: str = ""
) -> Iterator[Interface]:
    """xyzzy() with an address in its struct."""
    with fakekernel.fake_kernel(target, one) as kernel:
        made = Interface(fakexyzzy.POINTING, one, compiler=compilers[24], target=target)
        yield Rig(kernel, made).breaks(fault)


P13 = [item for item in BATTERY if item.prop == "P13"]


def test_a_kernel_that_reads_what_a_pointer_says_passes(
    local: Target, here: ABI, compilers: Compilers
) -> None:
    """All of the battery that goes through fields, too: none takes a pointer for a number."""
    with pointing(local, here, compilers) as interface:
        several = [item for item in items(here, 24) if item.name not in SLOW]
        for item in several + P13:
            if item.unless(fakexyzzy.POINTING, here) is None:
                item.run(interface, Level())
    assert len(P13) == 4


@pytest.mark.parametrize("fault", fakexyzzy.POINTERS)
def test_a_fault_of_a_pointer_is_one_of_p13(
    local: Target, here: ABI, compilers: Compilers, fault: str
) -> None:
    if fault == "pointer-low" and here.pointer == 4:
        pytest.skip("a program of this ABI has no memory above 4 GiB")
    found: list[Mismatch] = []
    with pointing(local, here, compilers, fault) as interface:
        for item in P13:
            if item.unless(fakexyzzy.POINTING, here) is None:
                try:
                    item.run(interface, Level())
                except ContractBrokenError as exc:
                    found += exc.mismatches
    assert found, fakexyzzy.POINTERS[fault]


def test_nothing_else_notices_a_fault_of_privilege(local: Target, compilers: Compilers) -> None:
    """Everybody is root, as without P19 they would be."""
    here = hosttarget.running()[0]
    with rigged(local, here, compilers, ksize=32, fault="look-by-uid") as rig:
        for item in items(here, 32):
            if item.prop in ("P11", "P17"):
                item.run(rig.interface, Level())


def test_what_a_child_did_is_seen_as_the_caller_s_own_is(rig32: Rig) -> None:
    """Who makes a call, and whose pid a field holds, change nothing else of what is seen."""
    interface = rig32.interface
    plain = interface.observe(interface.case())
    for who in (None, NOBODY):
        for peer in (None, PEERS[0], PEERS[2]):
            named = ("param_4", peer) if peer else None
            case = dataclasses.replace(interface.case(), who=who, peer=named)
            seen = interface.observe(case)
            assert dataclasses.replace(seen, results=()) == dataclasses.replace(plain, results=())
            assert not interface.compare(case, seen)


# What an assertion says.


def test_a_sweep_s_assertion_names_calls_and_outcomes(rig: Rig) -> None:
    interface = rig.breaks("tail-late")
    tail = Dim(kind=Kind.TAIL, start=24, stop=0)
    with pytest.raises(ContractBrokenError) as caught:
        interface.verify(Sweep(dims=(tail,), usize=40, template=interface.template()))
    held = interface.predict(interface.case(usize=40)).held
    assert held is not None
    effect = sweep.effect_hash(xyzzy.CONTRACT.effect, held)
    assert str(caught.value) == (
        f"{interface.abi.name}: xyzzy() breaks its contract:\n"
        "1 call: usize 40, byte 24 ^= 0xff\n"
        "  allowed: E2BIG, size set to 24\n"
        f"  kernel:  success, effect {effect:#018x}"
    )


def test_a_single_call_s_assertion_names_them_too(rig: Rig) -> None:
    interface = rig.breaks("no-write-back")
    memory = interface.example(usize=40)[:-1] + b"\1"
    case = dataclasses.replace(interface.case(usize=40), memory=memory)
    with pytest.raises(ContractBrokenError) as caught:
        interface.check(case)
    assert str(caught.value) == (
        f"{interface.abi.name}: xyzzy() breaks its contract:\n"
        "1 call: usize 40, byte 39 = 0x01\n"
        "  allowed: E2BIG, size set to 24 (Tail)\n"
        "  kernel:  E2BIG"
    )


@pytest.mark.parametrize(("fault", "start"), [("writes-behind", 16), ("writes-before", 24)])
def test_memory_found_changed_has_a_call(rig: Rig, fault: str, start: int) -> None:
    """The last one before it was looked at: a program of one call can show it."""
    interface = rig.breaks(fault)
    sizes = Dim(kind=Kind.USIZE, start=start, stop=start + 8)
    with pytest.raises(ContractBrokenError) as caught:
        interface.verify(Sweep(dims=(sizes,), template=interface.template()))
    (found,) = [one for one in caught.value.mismatches if one.cause == "canary"]
    assert found.case is not None
    refused = interface.predict(found.case).errno
    assert bool(refused) is (fault == "writes-behind")


def test_what_was_observed(rig: Rig) -> None:
    interface = rig.interface
    seen = interface.observe(interface.case())
    assert (seen.errno, seen.written, seen.strayed) == (0, None, False)
    assert seen.held == interface.predict(interface.case()).held
    seen = interface.observe(interface.case(usize=23))
    assert (seen.errno, seen.written, seen.held) == (errno.E2BIG, 24, None)
    interface = rig.breaks("writes-param")
    assert interface.observe(interface.case()).strayed
    with pytest.raises(ContractBrokenError, match="another byte of the struct changed"):
        interface.check(interface.case())


def test_many_calls_in_one_request(rig: Rig) -> None:
    """More than one program's worth, each judged by itself."""
    cases_of = [rig.interface.case(usize=usize) for usize in range(120)]
    before = rig.kernel.calls
    rig.interface.check_all(*cases_of[24:])
    assert rig.kernel.calls - before == 96
    with pytest.raises(ContractBrokenError) as caught:
        rig.breaks("min-too-low").check_all(*cases_of[4:])
    (found,) = caught.value.mismatches
    assert (found.first, found.count) == ("usize 23", 1)


def test_a_call_that_a_signal_ended_is_no_success(local: Target, compilers: Compilers) -> None:
    """It returned nothing: neither a result nor an errno."""
    here = hosttarget.running()[0]
    quiet = dataclasses.replace(xyzzy.CONTRACT, effect=Nothing())
    try:
        fakekernel.install(
            local, here, wanted=fakekernel.number(here), action=fakekernel.SECCOMP_RET_TRAP
        )
        interface = Interface(quiet, here, compiler=compilers[24], target=local)
        with pytest.raises(ContractBrokenError, match="SIGSYS"):
            interface.check(interface.case())
        with pytest.raises(ContractBrokenError, match="SIGSYS"):
            interface.verify(Sweep(dims=(), usize=24, template=interface.template()))
    finally:
        local.restart(here)


# A real interface: sched_setattr(2) of this machine's kernel.


@pytest.fixture(name="real")
def _real(local: Target, here: ABI) -> Interface:
    """sched_setattr(), with the size that this very kernel writes back."""
    made = Interface(SCHED_SETATTR, here, compiler=hosttarget.COMPILER, target=local)
    too_small = dataclasses.replace(made.case(), memory=(1).to_bytes(4, "little") + bytes(60))
    ksize = made.observe(too_small).written
    assert ksize is not None
    assert ksize >= 56
    made.__dict__["layout"] = dataclasses.replace(made.layout, size=ksize)
    return made


SIZES = Dim(kind=Kind.USIZE, start=0, stop=PAGE + 9)


@pytest.mark.parametrize("place", list(Place), ids=lambda place: place.name.lower())
def test_real_sizes(real: Interface, place: Place) -> None:
    real.verify(Sweep(dims=(SIZES,), template=real.template(), place=place))


def test_real_tails(real: Interface) -> None:
    tail = Dim(kind=Kind.TAIL, start=real.ksize, stop=0)
    bits = Dim(kind=Kind.BIT, start=0, stop=8)
    sizes = Dim(kind=Kind.USIZE, start=real.ksize, stop=real.ksize + 80)
    for place in (Place.MIDDLE, Place.END, Place.SHORT):
        real.verify(Sweep(dims=(sizes, tail, bits), template=real.template(), place=place))
    real.verify(Sweep(dims=(tail, bits), usize=PAGE, template=real.template()))


def test_real_flags_and_alignment(real: Interface) -> None:
    flags = Dim(kind=Kind.ARG_BIT, index=2, start=0, stop=32)
    shifts = Dim(kind=Kind.SHIFT, start=0, stop=16)
    for dims in ((flags,), (shifts,), (shifts, flags)):
        real.verify(Sweep(dims=dims, usize=real.ksize, template=real.template()))


def test_real_bytes_behind(real: Interface) -> None:
    beyond = Dim(kind=Kind.BYTE, start=48, stop=300)
    real.verify(Sweep(dims=(beyond,), usize=48, template=real.template()))


def test_a_false_promise_of_a_real_kernel_is_found(real: Interface) -> None:
    """The same contract with one word changed: what this kernel does is then not allowed."""
    tail = Tail(errno=errno.EINVAL, writes_size=True)
    checks = tuple(tail if isinstance(one, Tail) else one for one in SCHED_SETATTR.checks)
    other = Interface(
        dataclasses.replace(SCHED_SETATTR, checks=checks),
        real.abi,
        compiler=real.compiler,
        target=real.target,
    )
    other.__dict__["layout"] = real.layout
    walk = Dim(kind=Kind.TAIL, start=real.ksize, stop=0)
    with pytest.raises(ContractBrokenError, match=r"EINVAL.*\n.*E2BIG"):
        other.verify(Sweep(dims=(walk,), usize=real.ksize + 40, template=real.template()))
