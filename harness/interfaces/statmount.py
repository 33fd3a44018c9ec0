# SPDX-License-Identifier: GPL-2.0-only
"""statmount(2), as a contract.

    int statmount(const struct mnt_id_req *req, struct statmount *buf, size_t bufsize,
                  unsigned int flags);

Where it is promised: statmount(2) of the man-pages; include/uapi/linux/mount.h.  Where it
is done: fs/namespace.c:copy_mnt_id_req(), statmount(); since commit 46eae99ef733 ("add
statmount(2) syscall"), v6.8.

The mount that is asked for is none: a number that no mount can have reached.
"""

from __future__ import annotations

from errno import ENOENT

from harness.contract import (
    Absent,
    Contract,
    Fails,
    Flags,
    Pointer,
    SizeField,
    UnknownFlags,
    Value,
    piece_at,
)
from harness.interfaces.listmount import DECLARATION, REQUEST_CHECKS, VERSIONS

CONTRACT = Contract(
    name="statmount",
    number="__NR_statmount",
    header="linux/mount.h",
    struct="mnt_id_req",
    declaration=DECLARATION,
    unnamed=("spare",),
    size=SizeField(field="size", offset=0, width=4),
    versions=VERSIONS,
    zero_means=None,
    args=(Pointer(), Value(value=piece_at()), Value(value=1024), Flags(known={})),
    checks=(UnknownFlags(arg=3), *REQUEST_CHECKS),
    example={"mnt_id": 1 << 62},
    effect=Fails(errno=ENOENT),
    source="statmount(2); fs/namespace.c:copy_mnt_id_req()",
    since=(6, 8),
    absent=Absent(number=457),
)
