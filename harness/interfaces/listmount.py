# SPDX-License-Identifier: GPL-2.0-only
"""listmount(2), which takes the request that statmount(2) takes, as a contract.

    int listmount(const struct mnt_id_req *req, __u64 *mnt_ids, size_t nr_mnt_ids,
                  unsigned int flags);

Where it is promised: listmount(2) of the man-pages; include/uapi/linux/mount.h, "Structure
for passing mount ID and miscellaneous parameters to statmount(2) and listmount(2)".
Where it is done: fs/namespace.c:copy_mnt_id_req(); since commit b4c2bea8ceaa ("add
listmount(2) syscall"), v6.8.
"""

from __future__ import annotations

from errno import E2BIG, EINVAL

from harness.contract import (
    PAGE,
    Absent,
    AtLeast,
    Contract,
    Copy,
    FetchSize,
    Flags,
    Needs,
    Nothing,
    Pointer,
    SizeBounds,
    SizeField,
    Tail,
    UnknownFlags,
    Value,
    Version,
    piece_at,
)

VER0, VER1 = 24, 32  # bytes: MNT_ID_REQ_SIZE_VER0, _VER1
LSMT_ROOT = (1 << 64) - 1

DECLARATION = """
    struct mnt_id_req {
        __u32 size;
        __u32 spare; /* mnt_ns_fd, later */
        __u64 mnt_id;
        __u64 param;
        __u64 mnt_ns_id;
    };
"""
VERSIONS = (Version(name="VER0", size=VER0), Version(name="VER1", size=VER1))

#: copy_mnt_id_req(), in its order.
REQUEST_CHECKS = (
    FetchSize(),
    SizeBounds(minimum=VER0, maximum=PAGE, too_small=EINVAL, too_big=E2BIG),
    Tail(errno=E2BIG),
    Copy(),
    AtLeast(field="mnt_id", minimum=(1 << 31) + 1),  # above MNT_UNIQUE_ID_OFFSET
)

CONTRACT = Contract(
    name="listmount",
    number="__NR_listmount",
    header="linux/mount.h",
    struct="mnt_id_req",
    declaration=DECLARATION,
    unnamed=("spare",),
    size=SizeField(field="size", offset=0, width=4),
    versions=VERSIONS,
    zero_means=None,
    args=(
        Pointer(),
        Value(value=piece_at()),
        Value(value=16),
        Flags(known={"LISTMOUNT_REVERSE": 1 << 0}),
    ),
    checks=(UnknownFlags(arg=3), *REQUEST_CHECKS),
    example={"mnt_id": LSMT_ROOT},
    effect=Nothing(),
    newer=("LISTMOUNT_REVERSE",),
    source="listmount(2); fs/namespace.c:copy_mnt_id_req()",
    since=(6, 8),
    absent=Absent(number=458),
    needs=Needs(),
)
