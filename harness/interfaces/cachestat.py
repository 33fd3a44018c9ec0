# SPDX-License-Identifier: GPL-2.0-only
"""cachestat(2), with a struct of one size, as a contract.

    int cachestat(unsigned int fd, struct cachestat_range *range, struct cachestat *cstat,
                  unsigned int flags);

Where it is promised: cachestat(2) in the commit that introduced it, cf264e1329fb ("cachestat:
implement cachestat syscall"), v6.5: flags must be 0, else EINVAL; the kernel's selftest
cachestat.  Where it is done: mm/filemap.c:cachestat(), which looks at the flags last.
"""

from __future__ import annotations

from harness.contract import (
    Absent,
    Contract,
    Copy,
    Flags,
    Made,
    Needs,
    Nothing,
    Piece,
    Pointer,
    SizeFixed,
    Step,
    UnknownFlags,
    Value,
    Version,
    piece_at,
)

CONTRACT = Contract(
    name="cachestat",
    number="__NR_cachestat",
    header="linux/mman.h",
    struct="cachestat_range",
    declaration="struct cachestat_range { __u64 off; __u64 len; };",
    size=SizeFixed(),
    versions=(Version(name="6.5", size=16),),
    zero_means=None,
    args=(Made(step="file"), Pointer(), Value(value=piece_at(64)), Flags(known={})),
    checks=(Copy(whole=True), UnknownFlags(arg=3)),
    example={},
    effect=Nothing(),
    pieces=(Piece(at=0, data=b"extsys\0"), Piece(at=64, data=bytes(40))),
    setup=(Step(name="file", call="memfd_create", args=(piece_at(0), 0)),),
    source="cachestat(2); mm/filemap.c:cachestat()",
    since=(6, 5),
    absent=Absent(number=451),
    needs=Needs(options=("CACHESTAT_SYSCALL",)),
)
