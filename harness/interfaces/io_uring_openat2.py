# SPDX-License-Identifier: GPL-2.0-only
"""IORING_OP_OPENAT2, openat2(2) by way of io_uring, as a contract.

    struct io_uring_sqe { .opcode = IORING_OP_OPENAT2, .fd = dirfd, .addr = pathname,
                          .addr2 = how, .len = size, .file_index = 0 };

Where it is promised: io_uring_enter(2) of liburing, "Issue the equivalent of an
openat2(2) system call"; io_uring_prep_openat2(3), and of its asynchronous half
io_uring_setup(2), IORING_FEAT_SUBMIT_STABLE: what an entry points to may change once it
was consumed.  So the struct's promise is openat2(2)'s, of which openat2.py tells.  Where it
is done: io_uring/openclose.c:io_openat2_prep(), io_openat2(); since commit cebdb98617ae
("io_uring: add support for IORING_OP_OPENAT2"), v5.6.

The size is an entry's `len`, 32 bits; addresses are 64 bits wide in every ABI.  A thread of
the kernel's does the rest of the call where it may block, and always with IOSQE_ASYNC.
"""

from __future__ import annotations

from harness.contract import (
    Bytes,
    Contract,
    Descriptor,
    Needs,
    Pointer,
    SizeArg,
    SizeValue,
    Value,
)
from harness.interfaces import openat2

CONTRACT = Contract(
    name="io_uring_openat2",
    number="IORING_OP_OPENAT2",
    header=openat2.CONTRACT.header,
    includes=openat2.CONTRACT.includes,
    struct=openat2.CONTRACT.struct,
    declaration=openat2.CONTRACT.declaration,
    size=SizeArg(arg=3, width=32),
    versions=openat2.CONTRACT.versions,
    zero_means=None,
    args=(
        Value(value=openat2.AT_FDCWD),  # fd
        Pointer(),  # off, or addr2
        Bytes(data=b"/dev/null\0"),  # addr
        SizeValue(),  # len
        Value(value=0),  # the operation's flags
        Value(value=0),  # file_index: a descriptor, not a slot of the ring's
    ),
    checks=openat2.CONTRACT.checks,
    example=openat2.CONTRACT.example,
    effect=Descriptor(),
    source="io_uring_enter(2), openat2(2); io_uring/openclose.c:io_openat2_prep()",
    since=(5, 6),
    needs=Needs(options=("IO_URING",)),
    queued=True,
)
