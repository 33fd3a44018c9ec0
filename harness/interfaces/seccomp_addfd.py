# SPDX-License-Identifier: GPL-2.0-only
"""SECCOMP_IOCTL_NOTIF_ADDFD, whose size is in the ioctl's number, as a contract.

    int ioctl(int listener, SECCOMP_IOCTL_NOTIF_ADDFD, struct seccomp_notif_addfd *addfd);

Where it is promised: seccomp_unotify(2) of the man-pages; include/uapi/linux/seccomp.h; the
kernel's selftest seccomp_bpf.c:user_notification_addfd, which passes a larger size.  Where
it is done: kernel/seccomp.c:seccomp_notify_addfd(), EA_IOCTL(); since commit 7cf97b125455
("seccomp: Introduce addfd ioctl to seccomp user notifier"), v5.9.

Nobody waits behind the listener here, so what is accepted ends with ENOENT.
"""

from __future__ import annotations

from errno import E2BIG, EINVAL, ENOENT

from harness.contract import (
    PAGE,
    Contract,
    Copy,
    Fails,
    Made,
    Needs,
    OnlyWith,
    Piece,
    Pointer,
    SizeBounds,
    SizeIoctl,
    SizeValue,
    Step,
    Tail,
    UnknownBits,
    Version,
    piece_at,
)

VER0 = 24  # bytes: SECCOMP_NOTIFY_ADDFD_SIZE_VER0
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_NEW_LISTENER = 1 << 3
SETFD = 1 << 0

#: One struct sock_filter: BPF_RET | BPF_K, SECCOMP_RET_ALLOW.
FILTER = (0x06).to_bytes(2, "little") + bytes(2) + (0x7FFF0000).to_bytes(4, "little")
FILTER_AT = piece_at(16)
#: struct sock_fprog for all at once: 32-bit programs have the pointer at 4, m64 at 8.
PROGRAM = (1).to_bytes(4, "little") + FILTER_AT.to_bytes(4, "little")
PROGRAM += FILTER_AT.to_bytes(8, "little")

CONTRACT = Contract(
    name="seccomp_addfd",
    number="__NR_ioctl",
    header="linux/seccomp.h",
    includes=("linux/fcntl.h",),
    struct="seccomp_notif_addfd",
    declaration="""
        struct seccomp_notif_addfd {
            __u64 id;
            __u32 flags;
            __u32 srcfd;
            __u32 newfd;
            __u32 newfd_flags;
        };
    """,
    size=SizeIoctl(arg=1),
    versions=(Version(name="VER0", size=VER0),),
    zero_means=None,
    args=(Made(step="listener"), SizeValue(base=0x40002103), Pointer()),
    checks=(
        SizeBounds(minimum=VER0, maximum=PAGE - 1, too_small=EINVAL, too_big=EINVAL),
        Tail(errno=E2BIG),
        Copy(),
        UnknownBits(field="newfd_flags", known={"O_CLOEXEC": 0o2000000}),
        UnknownBits(
            field="flags",
            known={"SECCOMP_ADDFD_FLAG_SETFD": SETFD, "SECCOMP_ADDFD_FLAG_SEND": 1 << 1},
        ),
        OnlyWith(field="newfd", other="flags", bits=SETFD),
    ),
    example={"srcfd": 0},
    effect=Fails(errno=ENOENT),
    pieces=(Piece(at=0, data=PROGRAM), Piece(at=16, data=FILTER)),
    setup=(
        Step(call="prctl", args=(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)),
        Step(
            name="listener",
            call="seccomp",
            args=(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, piece_at(0)),
        ),
    ),
    source="seccomp_unotify(2); kernel/seccomp.c:seccomp_notify_addfd()",
    since=(5, 9),
    needs=Needs(options=("SECCOMP_FILTER",)),
)
