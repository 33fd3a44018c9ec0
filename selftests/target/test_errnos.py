# SPDX-License-Identifier: GPL-2.0-only
"""The error that is not of the call's own making: no file is left in the system.

The manual pages document it, and what they document is provoked
(selftests/host/test_manual.py); the kernel's own selftests have the others.
"""

from __future__ import annotations

import errno

import pytest

from harness import interfaces
from harness.contract import Contract
from harness.interface import Interface
from harness.interfaces.xyzzy import CONTRACTS
from harness.lab import Lab
from harness.program import ARENA, SCRATCH, Program, ResultOf, Who, at

#: The limit of the system's open files, and one that is far away.  None at all is
#: the one limit that is sure to be reached: the count is exact only beyond it.
FILE_MAX = "/proc/sys/fs/file-max"
MANY = b"65536\n"

SAMPLES = [
    pytest.param("xyzzy", id="xyzzy"),
    pytest.param("xyzzyat", id="xyzzyat", marks=pytest.mark.series("at")),
]


@pytest.fixture(scope="session")
def contract(lab: Lab) -> Contract:
    return interfaces.for_kernel(CONTRACTS, lab.compiler)


def placed(interface: Interface, program: Program, sample: str) -> ResultOf:
    """A call that is accepted, as the last of a program."""
    if sample == "xyzzy":
        program.write(ARENA, 0, interface.example())
        return program.syscall(interface.number(sample), at(ARENA), 0)
    # A zeroed struct xyzzy_args has no label, in any layout.
    program.write(SCRATCH, 0, b"/\0")
    zeros = (0,) if interface.abi.register == 64 else (0, 0)
    return program.syscall(interface.number(sample), 0, at(SCRATCH), *zeros, at(ARENA), 0)


@pytest.mark.prop("P20")
@pytest.mark.parametrize("sample", SAMPLES)
def test_no_file_is_left_in_the_system(interface: Interface, sample: str) -> None:
    """ENFILE, for a caller without CAP_SYS_ADMIN; fs/file_table.c:alloc_empty_file()."""
    program = Program()
    program.reset()
    program.become(Who(effective=0))
    call = placed(interface, program, sample)
    interface.target.write_file(FILE_MAX, b"0\n")
    try:
        refused = interface.caller.run(program)[call.index]
    finally:
        interface.target.write_file(FILE_MAX, MANY)
    assert refused.errno == errno.ENFILE
    assert interface.caller.run(program)[call.index].ret >= 0
