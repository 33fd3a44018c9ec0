# SPDX-License-Identifier: GPL-2.0-only
"""harness.battery_absent: an interface that this machine's kernel does not have.

The numbers are ones that no kernel has, or that every kernel has given to another call.
"""

from __future__ import annotations

import dataclasses
import errno

import hosttarget
import pytest

from harness.abi import ABI
from harness.batteries import BATTERY
from harness.battery import Level
from harness.contract import (
    Absent,
    Bytes,
    Constant,
    Contract,
    Made,
    Needs,
    Nothing,
    Pointer,
    Step,
    UnknownFlags,
    Value,
    Version,
    piece_at,
)
from harness.findings import ContractBrokenError
from harness.interface import Interface, SetupError
from harness.interfaces import cachestat, openat2, xyzzy
from harness.target import Target

ITEM = next(item for item in BATTERY if item.name == "not-there")
NO_SUCH_CALL = 2047
MEMBARRIER = {"m64": 324, "m32": 375, "mx32": 324}  # its flags are nonsense here: EINVAL


def interface(local: Target, here: ABI, contract: Contract) -> Interface:
    return Interface(contract, here, compiler=hosttarget.COMPILER, target=local)


def future(absent: Absent, *setup: Step) -> Contract:
    """The sample, which no header and no kernel here has, from a Linux that is still to come."""
    return dataclasses.replace(
        xyzzy.CONTRACT, number="__NR_future", since=(99, 0), absent=absent, setup=setup
    )


def test_it_is_for_older_kernels_alone() -> None:
    assert ITEM.older
    assert [item for item in BATTERY if item.older] == [ITEM]


def test_it_applies_where_the_contract_says_what_is_answered(here: ABI) -> None:
    assert ITEM.unless(cachestat.CONTRACT, here) is None
    assert ITEM.unless(xyzzy.CONTRACT, here)


def test_a_call_that_is_not_there(local: Target, here: ABI) -> None:
    ITEM.run(interface(local, here, future(Absent(number=NO_SUCH_CALL))), Level())


def test_another_answer_is_found(local: Target, here: ABI) -> None:
    contract = future(Absent(number=MEMBARRIER[here.name]))
    with pytest.raises(ContractBrokenError) as caught:
        ITEM.run(interface(local, here, contract), Level())
    assert any(one.cause == "ENOSYS → EINVAL" for one in caught.value.mismatches)


def test_an_ioctl_that_the_file_has_not(local: Target, here: ABI) -> None:
    absent = Absent(errno=errno.ENOTTY, constants={"FUTURE": "_IOWR('f', 250, char[24])"})
    file = Step(name="file", call="memfd_create", args=(piece_at(), 0))
    contract = dataclasses.replace(
        future(absent, file),
        number="__NR_ioctl",
        args=(Made(step="file"), Constant(name="FUTURE"), Pointer()),
        checks=tuple(c for c in xyzzy.CONTRACT.checks if not isinstance(c, UnknownFlags)),
        effect=Nothing(),
    )
    ITEM.run(interface(local, here, contract), Level())


def test_a_set_up_that_calls_the_interface_itself(local: Target, here: ABI) -> None:
    file = Step(name="file", call="memfd_create", args=(piece_at(), 0))
    itself = Step(call="ioctl", args=(Made(step="file"), 0x6600, 0))
    contract = dataclasses.replace(
        future(Absent(errno=errno.ENOTTY), file, itself),
        number="__NR_ioctl",
        args=(Made(step="file"), Value(value=0x6601), Pointer()),
        checks=tuple(c for c in xyzzy.CONTRACT.checks if not isinstance(c, UnknownFlags)),
        effect=Nothing(),
    )
    ITEM.run(interface(local, here, contract), Level())
    named = dataclasses.replace(contract, setup=(file, dataclasses.replace(itself, name="more")))
    with pytest.raises(SetupError, match="ENOTTY"):
        ITEM.run(interface(local, here, named), Level())


def test_a_step_of_the_set_up_is_what_fails(local: Target, here: ABI) -> None:
    step = Step(name="file", call="close", args=((1 << 31) - 1,))
    good = future(Absent(errno=errno.EBADF, step="file"), step)
    ITEM.run(interface(local, here, good), Level())
    bad = future(Absent(errno=errno.ENOENT, step="file"), step)
    with pytest.raises(ContractBrokenError, match="close"):
        ITEM.run(interface(local, here, bad), Level())


# What --local leaves out, and why.


def test_headers_without_the_struct(local: Target, here: ABI) -> None:
    reason = interface(local, here, future(Absent())).left_open((6, 1))
    assert reason
    assert "no struct xyzzy_params" in reason


def test_a_struct_that_headers_older_than_the_kernel_have_shorter(local: Target, here: ABI) -> None:
    grown = (*openat2.CONTRACT.versions, Version(name="future", size=4000))
    made = interface(local, here, dataclasses.replace(openat2.CONTRACT, versions=grown))
    reason = made.left_open((99, 0))
    assert reason
    assert "the kernel is 99.0" in reason
    assert made.left_open((2, 6)) is None  # older than its headers: they know it


def test_a_call_that_the_kernel_was_built_without(local: Target, here: ABI) -> None:
    args = (Value(value=1 << 30), Bytes(data=b"x\0"), *openat2.CONTRACT.args[2:])
    asked = dataclasses.replace(
        openat2.CONTRACT,
        args=args,
        absent=Absent(errno=errno.EBADF),
        needs=Needs(options=("OPENAT2",)),
    )
    reason = interface(local, here, asked).left_open((2, 6))
    assert reason == "this kernel answers EBADF: it needs CONFIG_OPENAT2"
    assert interface(local, here, openat2.CONTRACT).left_open((2, 6)) is None


def test_a_set_up_that_fails(local: Target, here: ABI) -> None:
    step = Step(call="close", args=((1 << 31) - 1,))
    asked = dataclasses.replace(openat2.CONTRACT, name="openat2_future", setup=(step,))
    reason = interface(local, here, asked).left_open((2, 6))
    assert reason
    assert "close(): EBADF" in reason
