# SPDX-License-Identifier: GPL-2.0-only
"""clone3(2), whose accepted calls make a process, as a contract.

    long clone3(struct clone_args *cl_args, size_t size);

Where it is promised: clone(2) of the man-pages, "clone3()" and "ERRORS";
include/uapi/linux/sched.h; the kernel's selftest clone3/clone3.c.  Where it is done:
kernel/fork.c:copy_clone_args_from_user(), clone3_args_valid(); since commit
7f192e3cd316 ("fork: add clone3"), v5.3.

Promised too, and not said here: flags that conflict; what CLONE_INTO_CGROUP asks of the
size; that no more than the caller's own stack is used.
"""

from __future__ import annotations

from errno import E2BIG, EINVAL

from harness.contract import (
    PAGE,
    AtMost,
    BothOrNeither,
    Child,
    Contract,
    Copy,
    NotTogether,
    Piece,
    Pointer,
    Points,
    SizeArg,
    SizeBounds,
    SizeValue,
    Tail,
    UnknownBits,
    Version,
)

SIGCHLD = 17
SIGHAND = 0x800
CLEAR_SIGHAND = 1 << 32

#: CLONE_DETACHED is none of them, nor is a signal's number: exit_signal has that.
CLONE_FLAGS = {
    "CLONE_NEWTIME": 0x80,
    "CLONE_VM": 0x100,
    "CLONE_FS": 0x200,
    "CLONE_FILES": 0x400,
    "CLONE_SIGHAND": SIGHAND,
    "CLONE_PIDFD": 0x1000,
    "CLONE_PTRACE": 0x2000,
    "CLONE_VFORK": 0x4000,
    "CLONE_PARENT": 0x8000,
    "CLONE_THREAD": 0x10000,
    "CLONE_NEWNS": 0x20000,
    "CLONE_SYSVSEM": 0x40000,
    "CLONE_SETTLS": 0x80000,
    "CLONE_PARENT_SETTID": 0x100000,
    "CLONE_CHILD_CLEARTID": 0x200000,
    "CLONE_UNTRACED": 0x800000,
    "CLONE_CHILD_SETTID": 0x1000000,
    "CLONE_NEWCGROUP": 0x2000000,
    "CLONE_NEWUTS": 0x4000000,
    "CLONE_NEWIPC": 0x8000000,
    "CLONE_NEWUSER": 0x10000000,
    "CLONE_NEWPID": 0x20000000,
    "CLONE_NEWNET": 0x40000000,
    "CLONE_IO": 0x80000000,
    "CLONE_CLEAR_SIGHAND": CLEAR_SIGHAND,
    "CLONE_INTO_CGROUP": 1 << 33,
}

CONTRACT = Contract(
    name="clone3",
    number="__NR_clone3",
    header="linux/sched.h",
    struct="clone_args",
    declaration="""
        struct clone_args {
            __aligned_u64 flags;
            __aligned_u64 pidfd;
            __aligned_u64 child_tid;
            __aligned_u64 parent_tid;
            __aligned_u64 exit_signal;
            __aligned_u64 stack;
            __aligned_u64 stack_size;
            __aligned_u64 tls;
            __aligned_u64 set_tid;
            __aligned_u64 set_tid_size;
            __aligned_u64 cgroup;
        };
    """,
    size=SizeArg(arg=1),
    versions=(
        Version(name="VER0", size=64),
        Version(name="VER1", size=80),
        Version(name="VER2", size=88),
    ),
    zero_means=None,
    args=(Pointer(), SizeValue()),
    checks=(
        SizeBounds(minimum=64, maximum=PAGE, too_small=EINVAL, too_big=E2BIG),
        Tail(errno=E2BIG),
        Copy(),
        AtMost(field="set_tid_size", maximum=32),  # MAX_PID_NS_LEVEL
        BothOrNeither(field="set_tid", other="set_tid_size"),
        AtMost(field="exit_signal", maximum=64),  # _NSIG
        # No pid is 0: what is read there is refused, but that is later.
        Points(field="set_tid", length=4, beside={"set_tid_size": 1}),
        UnknownBits(field="flags", known=CLONE_FLAGS),
        NotTogether(field="flags", bits=SIGHAND | CLEAR_SIGHAND),
        BothOrNeither(field="stack", other="stack_size"),
    ),
    example={"exit_signal": SIGCHLD},
    pieces=(Piece(at=0, data=bytes(4)),),
    effect=Child(),
    source="clone(2); kernel/fork.c:copy_clone_args_from_user(), clone3_args_valid()",
    since=(5, 3),
)
