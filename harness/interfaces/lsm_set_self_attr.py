# SPDX-License-Identifier: GPL-2.0-only
"""lsm_set_self_attr(2), a head and a value of any length behind it, as a contract.

    int lsm_set_self_attr(unsigned int attr, struct lsm_ctx *ctx, u32 size, u32 flags);

Where it is promised: Documentation/userspace-api/lsm.rst; include/uapi/linux/lsm.h; the
kernel's selftest lsm/lsm_set_self_attr_test.c.  Where it is done:
security/security.c:security_setselfattr(); since commit a04a1198088a ("LSM: syscalls for
current process attributes"), v6.8.

The module that is asked is none, so what is accepted ends with EOPNOTSUPP.
"""

from __future__ import annotations

from errno import E2BIG, EINVAL, EOPNOTSUPP

from harness.contract import (
    PAGE,
    Absent,
    AtLeast,
    AtMost,
    Contract,
    Copy,
    Fails,
    Flags,
    Needs,
    Pointer,
    SizeArg,
    SizeBounds,
    SizeValue,
    Tail,
    UnknownFlags,
    Value,
    Version,
)

LSM_ATTR_CURRENT = 100
HEAD = 32  # bytes: sizeof(struct lsm_ctx)

CONTRACT = Contract(
    name="lsm_set_self_attr",
    number="__NR_lsm_set_self_attr",
    header="linux/lsm.h",
    struct="lsm_ctx",
    declaration="struct lsm_ctx { __u64 id; __u64 flags; __u64 len; __u64 ctx_len; };",
    size=SizeArg(arg=2, width=32),
    versions=(Version(name="6.8", size=HEAD),),
    zero_means=None,
    args=(Value(value=LSM_ATTR_CURRENT), Pointer(), SizeValue(), Flags(known={})),
    checks=(
        UnknownFlags(arg=3),
        SizeBounds(minimum=HEAD, maximum=PAGE, too_small=EINVAL, too_big=E2BIG),
        Tail(errno=0),  # the value
        Copy(),
        AtLeast(field="len", minimum=HEAD),
        AtMost(field="ctx_len", maximum=0),  # with the len of the example
    ),
    example={"len": HEAD},
    effect=Fails(errno=EOPNOTSUPP),
    source="lsm.rst; security/security.c:security_setselfattr()",
    since=(6, 8),
    absent=Absent(number=460),
    needs=Needs(options=("SECURITY",)),
)
