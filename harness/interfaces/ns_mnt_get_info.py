# SPDX-License-Identifier: GPL-2.0-only
"""NS_MNT_GET_INFO, an answer whose size is in the ioctl's number, as a contract.

    int ioctl(int mnt_ns, NS_MNT_GET_INFO, struct mnt_ns_info *info);

Where it is promised: ioctl_nsfs(2) of the man-pages; include/uapi/linux/nsfs.h; the words
above fs/nsfs.c:copy_ns_info_to_user().  Where it is done: there; since commit
a1d220d9dafa ("nsfs: iterate through mount namespaces"), v6.12.
"""

from __future__ import annotations

from errno import EINVAL, ENOTTY

from harness.contract import (
    Absent,
    Contract,
    Copy,
    Fills,
    Made,
    Null,
    Piece,
    Pointer,
    SizeBounds,
    SizeIoctl,
    SizeValue,
    Step,
    Version,
    piece_at,
)

VER0 = 16  # bytes: MNT_NS_INFO_SIZE_VER0
AT_FDCWD = (1 << 64) - 100

CONTRACT = Contract(
    name="ns_mnt_get_info",
    number="__NR_ioctl",
    header="linux/nsfs.h",
    struct="mnt_ns_info",
    declaration="""
        struct mnt_ns_info {
            __u32 size;
            __u32 nr_mounts;
            __u64 mnt_ns_id;
        };
    """,
    size=SizeIoctl(arg=1),
    versions=(Version(name="VER0", size=VER0),),
    zero_means=None,
    # _IOR(0xb7, 10, …) without its size
    args=(Made(step="namespace"), SizeValue(base=0x8000B70A), Pointer()),
    checks=(
        Null(),
        SizeBounds(minimum=VER0, maximum=None, too_small=EINVAL, too_big=EINVAL),
        Copy(),
    ),
    example={},
    effect=Fills(size_holds="least"),
    pieces=(Piece(at=0, data=b"/proc/self/ns/mnt\0"),),
    setup=(Step(name="namespace", call="openat", args=(AT_FDCWD, piece_at(0), 0, 0)),),
    source="ioctl_nsfs(2); fs/nsfs.c:copy_ns_info_to_user()",
    since=(6, 12),
    absent=Absent(errno=ENOTTY),
)
