# SPDX-License-Identifier: GPL-2.0-only
"""xyzzy(2) once more, after its man page and not after the contract, with faults to choose from.

It answers in a caller's stead (fakekernel.py), so that sweeps, single calls
and their comparison with the model run from end to end on any machine, and so
that a fault can be put into "the kernel" by its name.
"""

from __future__ import annotations

import dataclasses
import errno
import os
from pathlib import Path

from fakekernel import NUMBER, Called, Descriptor, FakeKernel

from harness.contract import Contract, Piece, Points, Privileged, Process, Version
from harness.interfaces import xyzzy

VER0 = 24
PAGE = 4096
CLOEXEC, NONBLOCK = 1, 2
SECOND = 1_000_000_000  # ns

#: A fault's name, and what it is.
FAULTS = {
    "min-too-low": "VER0 - 1 is taken",
    "ver0-refused": "a size of VER0 itself is refused",
    "page-refused": "a size of exactly a page is refused",
    "no-upper-bound": "sizes beyond a page are taken",
    "zero-refused": "a size of 0 is refused",
    "tail-late": "the byte at ksize is not looked at",
    "tail-early": "the last byte is not looked at",
    "tail-beyond": "one byte behind the struct is looked at",
    "tail-unchecked": "no trailing byte is looked at",
    "tail-einval": "a trailing byte is EINVAL",
    "no-zero-fill": "what the caller leaves out is not zero",
    "copies-ksize": "ksize bytes are copied, however few there are",
    "only-versions": "sizes between versions are refused",
    "no-write-back": "the size is not written on E2BIG",
    "wrong-write-back": "VER0 + 4 is written",
    "write-back-always": "the size is written on success, too",
    "write-back-einval": "the size is written on EINVAL, too",
    "wide-write-back": "eight bytes are written where the size has four",
    "writes-behind": "a byte behind the struct is written on E2BIG",
    "writes-before": "a byte before the struct is written on success",
    "writes-param": "the last byte of param_3 is written on success",
    "bit-let-through": "bit 7 of the flags is taken",
    "flags-64": "the upper half of the flags' register is looked at",
    "flags-late": "unknown flags are found after the size",
    "p1-unchecked": "unknown bits of param_1 are taken",
    "p1-bit-31": "bit 31 of param_1 is taken",
    "delay-unbounded": "a delay above a second is taken",
    "fault-e2big": "a hole in the tail is E2BIG",
    "nonzero-before-hole": "a hole in the tail is found before a nonzero byte",
    "cloexec-inverted": "close-on-exec is set where it was not asked for, and only there",
    "size-of-24": "the record's size field is ksize",
}

#: The same, of who may.
PRIVILEGE = {
    "capability-unchecked": "the upper half of param_2 is anybody's",
    "root-suffices": "uid 0 is enough for it, with or without the capability",
    "root-alone": "only uid 0 gets it, with or without the capability",
    "wrong-capability": "it takes CAP_CHOWN",
    "namespace-suffices": "the capability in a user namespace of one's own is enough",
    "permitted-suffices": "the capability need not be effective",
    "privilege-late": "the highest value that is free takes the capability too",
    "privilege-early": "EPERM comes before an unknown bit's EINVAL",
    "look-unchecked": "param_4 may be anybody's pid",
    "look-by-uid": "any process of the same uid will do",
    "look-forbidden": "root may not look either",
    "pid-cut": "param_4 is cut to 32 bits",
    "nobody-eperm": "a pid that nobody has is EPERM",
    "gone-accepted": "a pid that nobody has is taken",
}
FAULTS |= PRIVILEGE

#: The same, of where a pointer points to.
POINTERS = {
    "pointer-cut": "an address is cut to 32 bits",
    "pointer-31": "an address is cut to 31 bits above its 32nd",
    "pointer-unread": "what it points to is not read",
    "pointer-low": "addresses above 4 GiB are a fault",
    "pointer-null": "NULL is a fault",
    "pointer-short": "the last byte is not read",
    "pointer-einval": "a fault is EINVAL",
}
FAULTS |= POINTERS

#: The contract's capability, among those that root in a container has; and linux/capability.h.
CAPABILITY = "CAP_NET_RAW"
NUMBERS = {"CAP_CHOWN": 0, CAPABILITY: 13, "CAP_SYS_PTRACE": 19, "CAP_SYS_RESOURCE": 24}
#: What is free of param_2.
FREE = (1 << 63) - 1


#: The struct as a newer kernel has it: with a process to name, and a privilege.
NEWER = dataclasses.replace(
    xyzzy.CONTRACT,
    versions=(xyzzy.CONTRACT.versions[0], Version(name="VER1", size=32)),
    declaration=xyzzy.CONTRACTS[1].declaration,
    checks=(
        *(check for check in xyzzy.CONTRACT.checks if not isinstance(check, (Privileged, Process))),
        Privileged(field="param_2", above=FREE, capability=CAPABILITY),
        Process(field="param_4"),
    ),
)


#: With an address of sixteen bytes in the place of the cookie.
POINTING = dataclasses.replace(
    xyzzy.CONTRACT,
    checks=(
        *(check for check in xyzzy.CONTRACT.checks if not isinstance(check, Privileged)),
        Points(field="param_2", length=16),
    ),
    pieces=(Piece(at=0, data=b"sixteen bytes..."),),
    example={"param_1": 1},
)


@dataclasses.dataclass(frozen=True)
class Credentials:
    """What /proc tells of a process."""

    uid: int
    effective: int
    permitted: int
    namespace: str
    dumpable: bool

    def has(self, capability: str, *, permitted: bool = False) -> bool:
        """Whether it has the capability, in whatever namespace."""
        mask = self.permitted if permitted else self.effective
        return bool(mask >> NUMBERS[capability] & 1)


def credentials(pid: int) -> Credentials | None:
    """None when there is no such process."""
    where = Path("/proc") / str(pid)
    try:
        lines = (where / "status").read_text().splitlines()
        status = dict(line.split(":", 1) for line in lines)
        uid = int(status["Uid"].split()[1])
        return Credentials(
            uid=uid,
            effective=int(status["CapEff"], 16),
            permitted=int(status["CapPrm"], 16),
            namespace=str((where / "ns" / "user").readlink()),
            # Who may not be looked at has files that are root's (proc(5)).
            dumpable=(where / "status").stat().st_uid == uid,
        )
    except FileNotFoundError:
        return None


def headers(where: Path, contract: Contract) -> Path:
    """An include directory with linux/xyzzy.h, and the call's number for every ABI."""
    (where / "linux").mkdir(parents=True)
    (where / "asm").mkdir()
    sizes = "".join(
        f"#define XYZZY_PARAMS_SIZE_{one.name} {one.size}\n" for one in contract.versions
    )
    (where / "linux" / "xyzzy.h").write_text(
        f"#include <linux/types.h>\n{contract.declaration}\n{sizes}"
        "#define XYZZY_CLOEXEC 1\n#define XYZZY_NONBLOCK 2\n"
        "#define XYZZY_P1_URGENT 1\n#define XYZZY_P1_TEST 2\n"
    )
    (where / "asm" / "unistd.h").write_text(
        "#include_next <asm/unistd.h>\n"
        "#if defined(__x86_64__) && defined(__ILP32__)\n"
        f"#define __NR_xyzzy ({NUMBER} | 0x40000000)\n"
        "#else\n"
        f"#define __NR_xyzzy {NUMBER}\n"
        "#endif\n"
    )
    return where


@dataclasses.dataclass
class FakeXyzzy:
    """The kernel's side: assign it to a FakeKernel's ``answer``."""

    kernel: FakeKernel
    fault: str = ""
    ksize: int = 24
    capability: str = ""  #: for the upper half of param_2; empty: it is anybody's
    names: bool = False  #: param_4 is a pid; otherwise it may be anything
    points: int = 0  #: bytes that param_2 points to; 0: it is no address

    def __post_init__(self) -> None:
        assert not self.fault or self.fault in FAULTS

    def has(self, *faults: str) -> bool:
        return self.fault in faults

    def __call__(self, call: Called) -> int | Descriptor:
        pointer, flags = call.args[0], call.args[1]
        number = self._flags(flags)
        if number and not self.has("flags-late"):
            return -number
        raw = self.kernel.read(pointer, 4)
        if len(raw) < 4:
            return -errno.EFAULT
        size = int.from_bytes(raw, "little")
        if size == 0 and not self.has("zero-refused"):
            size = VER0
        number = self._size(pointer, size) or number or self._tail(pointer, size)
        if number:
            self._write_back(pointer, number)
            return -number
        return self._accept(pointer, size, flags, call.pid)

    def _privileged(self, pid: int) -> bool:
        """capable(), as the kernel has it or not."""
        mine, first = credentials(pid), credentials(os.getpid())
        assert mine is not None
        assert first is not None
        if self.has("capability-unchecked"):
            return True
        if self.has("root-suffices") and not mine.uid:
            return True
        if self.has("root-alone"):
            return not mine.uid
        wanted = "CAP_CHOWN" if self.has("wrong-capability") else self.capability
        here = mine.namespace == first.namespace or self.has("namespace-suffices")
        return here and mine.has(wanted, permitted=self.has("permitted-suffices"))

    def _names(self, data: bytes, pid: int) -> int:
        """For whom param_4 names: the errno, or 0."""
        named = int.from_bytes(data[24:32], "little")
        if self.has("pid-cut"):
            named &= 0xFFFF_FFFF
        if not named or not self.names:
            return 0
        mine, other = credentials(pid), credentials(named)
        assert mine is not None
        if other is None:
            if self.has("gone-accepted"):
                return 0
            return errno.EPERM if self.has("nobody-eperm") else errno.ESRCH
        return 0 if named == pid or self._may_look(mine, other) else errno.EPERM

    def _points(self, data: bytes) -> int:
        """For where param_2 points to: the errno, or 0."""
        address = int.from_bytes(data[8:16], "little")
        if not self.points or self.has("pointer-unread"):
            return 0
        if not address:
            return errno.EFAULT if self.has("pointer-null") else 0
        if self.has("pointer-low") and address >> 32:
            return errno.EFAULT
        if self.has("pointer-cut"):
            address &= 0xFFFF_FFFF
        if self.has("pointer-31"):
            address &= ~(0x7FFF_FFFF << 33)
        length = self.points - self.has("pointer-short")
        there = address < 1 << 47 and len(self.kernel.read(address, length)) == length
        return 0 if there else errno.EINVAL if self.has("pointer-einval") else errno.EFAULT

    def _may_look(self, mine: Credentials, other: Credentials) -> bool:
        """ptrace(2), "Ptrace access mode checking", steps 3 to 6."""
        if self.has("look-unchecked"):
            return True
        if mine.has("CAP_SYS_PTRACE") and mine.namespace == other.namespace:
            return not self.has("look-forbidden")
        if mine.uid != other.uid:
            return False
        if self.has("look-by-uid"):
            return True
        covered = not other.permitted & ~mine.permitted
        return other.dumpable and covered and mine.namespace == other.namespace

    def _flags(self, flags: int) -> int:
        known = CLOEXEC | NONBLOCK | (1 << 7 if self.has("bit-let-through") else 0)
        if not self.has("flags-64"):
            flags &= 0xFFFFFFFF
        return errno.EINVAL if flags & ~known else 0

    def _size(self, pointer: int, size: int) -> int:
        least = VER0 - self.has("min-too-low") + self.has("ver0-refused")
        most = 1 << 32 if self.has("no-upper-bound") else PAGE - self.has("page-refused")
        if not least <= size <= most:
            return errno.E2BIG
        if self.has("only-versions") and size < self.ksize and size != VER0:
            return errno.E2BIG
        return 0

    def _tail(self, pointer: int, size: int) -> int:
        start = self.ksize + self.has("tail-late")
        stop = min(size, 3 * PAGE) - self.has("tail-early") + self.has("tail-beyond")
        if size <= self.ksize or stop <= start or self.has("tail-unchecked"):
            return 0
        tail = self.kernel.read(pointer + start, stop - start)
        short = len(tail) < stop - start
        if short and self.has("nonzero-before-hole"):
            return errno.EFAULT
        if tail.strip(b"\0"):
            return errno.EINVAL if self.has("tail-einval") else errno.E2BIG
        return (errno.E2BIG if self.has("fault-e2big") else errno.EFAULT) if short else 0

    def _write_back(self, pointer: int, number: int) -> None:
        wanted = number == errno.E2BIG or self.has("write-back-einval")
        if wanted and not self.has("no-write-back"):
            value = VER0 + 4 if self.has("wrong-write-back") else self.ksize
            self.kernel.write(
                pointer, value.to_bytes(8 if self.has("wide-write-back") else 4, "little")
            )
        if self.has("writes-behind"):
            self.kernel.write(pointer + 128, b"\xee")

    def _accept(self, pointer: int, size: int, flags: int, pid: int) -> int | Descriptor:
        count = self.ksize if self.has("copies-ksize") else min(size, self.ksize)
        data = self.kernel.read(pointer, count)
        if len(data) < count:
            return -errno.EFAULT
        filler = b"\xaa" if self.has("no-zero-fill") else b"\0"
        data = data.ljust(self.ksize, filler)
        kept = self.ksize if self.has("size-of-24") else size
        data = kept.to_bytes(4, "little") + data[4:]
        param_1 = int.from_bytes(data[4:8], "little")
        known = 3 | (1 << 31 if self.has("p1-bit-31") else 0)
        wrong = param_1 & ~known and not self.has("p1-unchecked")
        late = int.from_bytes(data[16:24], "little") > SECOND and not self.has("delay-unbounded")
        reserved = int.from_bytes(data[8:16], "little") > FREE - self.has("privilege-late")
        refused = reserved and self.capability and not self._privileged(pid)
        if refused and self.has("privilege-early"):
            return -errno.EPERM
        if wrong or late:
            self._write_back(pointer, errno.EINVAL)
            return -errno.EINVAL
        number = errno.EPERM if refused else self._names(data, pid) or self._points(data)
        if number:
            return -number
        if self.has("write-back-always"):
            self.kernel.write(pointer, self.ksize.to_bytes(4, "little"))
        if self.has("writes-before"):
            self.kernel.write(pointer - 3, b"\xee")
        if self.has("writes-param"):
            self.kernel.write(pointer + 23, b"\xee")
        reading, writing = os.pipe2(os.O_NONBLOCK if flags & NONBLOCK else 0)
        os.write(writing, data)
        os.close(writing)
        return Descriptor(reading, cloexec=bool(flags & CLOEXEC) != self.has("cloexec-inverted"))
