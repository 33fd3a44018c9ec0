# SPDX-License-Identifier: GPL-2.0-only
"""xyzzyat(2), the second sample: what xyzzy(2) was made not to need.

    int xyzzyat(int dfd, const char *path, loff_t offset, struct xyzzy_args *args,
                unsigned int flags);

A pointer and a long in a struct, a 64-bit argument in 32-bit registers, and x32,
which is like neither of the others: the kernel has an entry for each ABI, and
read(2) from the descriptor shows what it made of every argument.  Offsets in the
structs and numbers come from the kernel's headers through that ABI's compiler.
"""

from __future__ import annotations

import dataclasses
import errno
import fcntl
from functools import cached_property
from typing import Any

import pytest

from harness import layout as layouts
from harness.abi import ABIS
from harness.interface import Interface
from harness.layout import Layout
from harness.program import AREA_BYTES, ARENA, SCRATCH, Address, Program, ResultOf, at

pytestmark = pytest.mark.series("at")

HEADER = "linux/xyzzyat.h"
#: As the header has them; names and order of the members are taken from here.
DECLARED = {
    "xyzzy_args": """
        struct xyzzy_args {
            const char *ptr;
            __kernel_long_t varying_val;
            __u64 fixed_val;
        };
    """,
    "xyzzyat_record": """
        struct xyzzyat_record {
            __u32 dev_major;
            __u32 dev_minor;
            __aligned_u64 ino;
            __s64 offset;
            __s64 varying_val;
            __aligned_u64 fixed_val;
            char label[32];
        };
    """,
}
#: Offsets, size and where the offset argument travels: what the entries are there for.
ARGS = {"m64": (0, 8, 16, 24), "m32": (0, 4, 8, 16), "mx32": (0, 8, 16, 24)}
#: Where the label is mapped: above 4 GiB where a pointer can say so.
LABEL_AT = {"m64": 0x5_1234_5000, "m32": 0x5123_4000, "mx32": 0x5123_4000}

AT_FDCWD = (1 << 64) - 100
U64 = (1 << 64) - 1
LONGEST = 31  #: bytes of a label, without its NUL
LABEL = b"a label"
#: What stands in memory that has no value: padding, and behind a label's NUL.
DIRT = 0xFF

# Places in the scratch area, bytes.
PATH_AT = 0
NAME_AT = 0x1000
STAT_AT = 0x2000
RECORD_AT = 0x3000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """One call; the example is accepted."""

    dfd: int | ResultOf = AT_FDCWD
    path: bytes = b"/"
    offset: int = 0x0123_4567_89AB_CDEF
    label: bytes | None = LABEL  #: None: ptr is NULL
    label_offset: int = 0  #: bytes from the start of its page
    varying: int = -2
    fixed: int = 0xFEDC_BA98_7654_3210
    flags: int = 0
    args: Address = dataclasses.field(default_factory=lambda: at(ARENA))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seen:
    """What came of it: an errno, or the record, and where statx(2) says that the file is."""

    errno: int
    record: bytes
    stat: bytes


class Kit:
    """xyzzyat() in one ABI's way: its registers, its struct, its constants."""

    def __init__(self, interface: Interface) -> None:
        self.interface = interface
        self.abi = interface.abi

    def struct(self, name: str, header: str = HEADER) -> Layout:
        return layouts.layout(
            self.interface.compiler,
            self.abi,
            struct=name,
            fields=layouts.field_names(DECLARED[name], name),
            includes=(header,),
        )

    @cached_property
    def args(self) -> Layout:
        return self.struct("xyzzy_args")

    @cached_property
    def record(self) -> Layout:
        return self.struct("xyzzyat_record")

    @cached_property
    def stat(self) -> Layout:
        return layouts.layout(
            self.interface.compiler,
            self.abi,
            struct="statx",
            fields=("stx_dev_major", "stx_dev_minor", "stx_ino"),
            includes=("linux/stat.h",),
        )

    def constant(self, name: str) -> int:
        return self.interface.constant(name, HEADER, "linux/fcntl.h", "linux/stat.h")

    def number(self, name: str) -> int:
        return self.interface.number(name)

    def registers(self, asked: Asked, path: Address) -> tuple[int | Address | ResultOf, ...]:
        """The arguments: 64 bits are two registers to a program that has 32-bit ones."""
        offset = asked.offset & U64
        halves = (offset,) if self.abi.register == 64 else (offset & 0xFFFF_FFFF, offset >> 32)
        return (asked.dfd, path, *halves, asked.args, asked.flags)

    def memory(self, asked: Asked) -> bytes:
        """The struct; what is padding in this ABI is not zero."""
        data = bytearray([DIRT] * self.args.size)
        where = 0 if asked.label is None else LABEL_AT[self.abi.name] + asked.label_offset
        self.args.put(data, "ptr", where)
        self.args.put(data, "varying_val", asked.varying)
        self.args.put(data, "fixed_val", asked.fixed)
        return bytes(data)

    def prepare(self, program: Program, asked: Asked) -> Address:
        """Lay out the memory of a call; the address of its path."""
        program.write(SCRATCH, PATH_AT, asked.path + b"\0")
        assert asked.args.area is ARENA
        fits = self.memory(asked)[: max(0, AREA_BYTES - asked.args.offset)]
        if fits:
            program.write(ARENA, asked.args.offset, fits)
        if asked.label is not None:
            # A file of which the page is a view, so that the address can be chosen.
            text = asked.label[: 4096 - asked.label_offset]
            page = b"\0" * asked.label_offset + text
            program.write(SCRATCH, NAME_AT, page)
            program.write(SCRATCH, STAT_AT, b"label\0")
            file = program.syscall(self.number("memfd_create"), at(SCRATCH, STAT_AT), 0)
            program.syscall(self.number("write"), file, at(SCRATCH, NAME_AT), len(page))
            how = self.interface.constant("MAP_SHARED | MAP_FIXED_NOREPLACE", "linux/mman.h")
            read = self.interface.constant("PROT_READ", "linux/mman.h")
            mmap = "mmap2" if self.abi.name == "m32" else "mmap"
            program.syscall(self.number(mmap), LABEL_AT[self.abi.name], 4096, read, how, file, 0)
            program.syscall(self.number("close"), file)
        return at(SCRATCH, PATH_AT)

    def place(self, program: Program, asked: Asked) -> ResultOf:
        """The memory and the call; the result is the descriptor."""
        path = self.prepare(program, asked)
        return program.syscall(self.number("xyzzyat"), *self.registers(asked, path))

    def clean(self, program: Program) -> None:
        program.syscall(self.number("munmap"), LABEL_AT[self.abi.name], 4096)

    def call(self, asked: Asked, program: Program | None = None) -> Seen:
        """One call, read back and closed, behind what ``program`` has done."""
        program = program or Program()
        path = self.prepare(program, asked)
        follow = asked.flags & self.constant("AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW")
        ino = self.constant("STATX_INO")
        program.syscall(self.number("statx"), asked.dfd, path, follow, ino, at(SCRATCH, STAT_AT))
        stat = program.read(SCRATCH, STAT_AT, 256)
        fd = program.syscall(self.number("xyzzyat"), *self.registers(asked, path))
        program.fill(SCRATCH, RECORD_AT, 128, DIRT)
        got = program.syscall(self.number("read"), fd, at(SCRATCH, RECORD_AT), 128)
        record = program.read(SCRATCH, RECORD_AT, 128)
        program.syscall(self.number("close"), fd)
        self.clean(program)
        results = self.interface.caller.run(program)
        length = max(0, results[got.index].ret)
        return Seen(
            errno=results[fd.index].errno,
            record=b"" if results[fd.index].errno else results[record.index].data[:length],
            stat=results[stat.index].data,
        )

    def wanted(self, asked: Asked, seen: Seen) -> bytes:
        """The record that a call has to give; the file is the one that statx(2) sees."""
        data = self.record.new(
            dev_major=self.stat.get(seen.stat, "stx_dev_major"),
            dev_minor=self.stat.get(seen.stat, "stx_dev_minor"),
            ino=self.stat.get(seen.stat, "stx_ino"),
            offset=asked.offset,
            varying_val=asked.varying,
            fixed_val=asked.fixed,
        )
        label = self.record.field("label")
        text = (asked.label or b"").partition(b"\0")[0]
        data[label.offset : label.end] = text.ljust(label.size, b"\0")
        return bytes(data)

    def check(self, asked: Asked, program: Program | None = None) -> Seen:
        """The call is accepted, and everything arrived."""
        seen = self.call(asked, program)
        assert not seen.errno, f"{asked}: {errno.errorcode[seen.errno]}"
        assert seen.record == self.wanted(asked, seen), asked
        return seen


@pytest.fixture
def kit(interface: Interface) -> Kit:
    return Kit(interface)


@pytest.mark.prop("P14")
def test_the_args_have_the_layout_that_their_entry_expects(kit: Kit) -> None:
    """Two of the three share a size, and no two share size, pointer and registers."""
    offsets = tuple(field.offset for field in kit.args.fields)
    assert (*offsets, kit.args.size) == ARGS[kit.abi.name]
    assert kit.args.field("ptr").size == kit.abi.pointer
    wide = 4 if kit.abi.name == "m32" else 8
    assert kit.args.field("varying_val").size == wide, "__kernel_long_t of x32 is 64 bits"
    assert bool(kit.args.padding()) == (kit.abi.name == "mx32")


@pytest.mark.prop("P14")
def test_the_record_has_one_layout(kit: Kit) -> None:
    """And no padding, in any ABI."""
    for abi in ABIS:
        other = Kit(kit.interface)
        other.abi = abi
        assert other.record == kit.record
    assert kit.record.padding() == []
    assert kit.record.field("label").size == kit.constant("XYZZYAT_LABEL_SIZE") == LONGEST + 1


@pytest.mark.prop("P12")
def test_every_argument_arrives(kit: Kit) -> None:
    """All at once, each value unlike all others."""
    kit.check(Asked())


@pytest.mark.prop("P12")
@pytest.mark.parametrize("low", [0, 0xFFFF_FFFF, 0x8000_0000])
def test_each_bit_of_the_offset(kit: Kit, low: int) -> None:
    """Above 4 GiB, and in both halves: neither is lost, swapped or extended into the other."""
    for bit in range(63):
        kit.check(Asked(offset=(low | 1 << bit) if bit >= 32 else 1 << bit))
    kit.check(Asked(offset=low))
    kit.check(Asked(offset=(1 << 63) - 1))


@pytest.mark.prop("P12")
@pytest.mark.parametrize("offset", [-1, -(1 << 63), -(1 << 32), -(1 << 63) + 1])
def test_a_negative_offset_is_refused(kit: Kit, offset: int) -> None:
    assert kit.call(Asked(offset=offset)).errno == errno.EINVAL


@pytest.mark.prop("P13")
def test_each_bit_of_the_fields(kit: Kit) -> None:
    """Values above 2^32; a long with its sign, in the width that this ABI has."""
    width = 8 * kit.args.field("varying_val").size
    for bit in range(64):
        shifted = 1 << (bit % width)
        varying = shifted - (1 << width) if shifted >> (width - 1) else shifted
        kit.check(Asked(varying=varying, fixed=1 << bit))
        kit.check(Asked(varying=~varying, fixed=U64 ^ 1 << bit))
    kit.check(Asked(varying=-(1 << (width - 1)), fixed=U64))


@pytest.mark.prop("P13")
def test_labels(kit: Kit) -> None:
    """Each length, at the end of a page and with dirt behind it; one byte too many."""
    kit.check(Asked(label=None))
    for length in range(LONGEST + 1):
        text = bytes(range(1, length + 1)) + b"\0"
        kit.check(Asked(label=text, label_offset=4096 - len(text)))
        kit.check(Asked(label=text + bytes([DIRT] * 64)))
    too_long = b"x" * (LONGEST + 1)
    assert kit.call(Asked(label=too_long)).errno == errno.EINVAL
    assert kit.call(Asked(label=too_long, label_offset=4096 - LONGEST)).errno == errno.EFAULT
    assert kit.call(Asked(label=b"", label_offset=4096)).errno == errno.EFAULT


@pytest.mark.prop("P6")
def test_the_args_end_where_memory_does(kit: Kit) -> None:
    """Not a byte more than this ABI's struct is read, and none less."""
    end = AREA_BYTES - kit.args.size
    kit.check(Asked(args=at(ARENA, end)))
    for late in range(1, kit.args.size + 1):
        seen = kit.call(Asked(args=at(ARENA, end + late)))
        assert seen.errno == errno.EFAULT, f"{late} bytes are missing"


@pytest.mark.prop("P9")
def test_the_alignment_of_the_args(kit: Kit) -> None:
    for offset in range(16):
        kit.check(Asked(args=at(ARENA, offset)))


@pytest.mark.prop("P10")
def test_each_unknown_flag_is_refused(kit: Kit) -> None:
    """Alone and with all known ones."""
    known = kit.constant("XYZZYAT_CLOEXEC | AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW")
    for bit in range(32):
        if not known & 1 << bit:
            assert kit.call(Asked(flags=1 << bit)).errno == errno.EINVAL, hex(1 << bit)
            assert kit.call(Asked(flags=known | 1 << bit)).errno == errno.EINVAL, hex(1 << bit)


@pytest.mark.prop("P12")
def test_what_stands_above_an_int_is_not_looked_at(kit: Kit) -> None:
    """dfd and flags, in the 64-bit registers of those that have them."""
    if kit.abi.register < 64:
        pytest.skip("the registers have 32 bits")
    dirt = 0xDEAD_BEEF << 32
    kit.check(Asked(dfd=dirt | AT_FDCWD & 0xFFFF_FFFF))
    kit.check(Asked(flags=dirt))


@pytest.mark.prop("dfd")
def test_ways_to_one_file(kit: Kit) -> None:
    """xyzzyat(AT_FDCWD, path) is by path, AT_EMPTY_PATH is by descriptor: one record."""
    directory, name = b"/extsys", b"agent"
    records = set()

    def opened(path: bytes) -> tuple[Program, ResultOf]:
        program = Program()
        program.write(SCRATCH, PATH_AT, path + b"\0")
        how = kit.constant("O_PATH")
        return program, program.syscall(
            kit.number("openat"), AT_FDCWD, at(SCRATCH, PATH_AT), how, 0
        )

    records.add(kit.check(Asked(path=directory + b"/" + name)).record)
    # An absolute path does not look at dfd.
    records.add(kit.check(Asked(path=directory + b"/" + name, dfd=9999)).record)
    program, fd = opened(directory)
    records.add(kit.check(Asked(path=name, dfd=fd), program).record)
    program, fd = opened(directory + b"/" + name)
    empty = kit.constant("AT_EMPTY_PATH")
    records.add(kit.check(Asked(path=b"", dfd=fd, flags=empty), program).record)
    assert len(records) == 1
    # Another file is another record; an empty path with AT_FDCWD is the directory.
    other = kit.check(Asked(path=directory)).record
    assert other not in records
    kit.check(Asked(path=b"", flags=empty))


@pytest.mark.prop("dfd")
def test_a_symbolic_link(kit: Kit) -> None:
    """Followed, unless AT_SYMLINK_NOFOLLOW."""
    followed = kit.check(Asked(path=b"/proc/self")).record
    itself = kit.check(Asked(path=b"/proc/self", flags=kit.constant("AT_SYMLINK_NOFOLLOW"))).record
    assert followed != itself


@pytest.mark.prop("dfd")
@pytest.mark.parametrize(
    ("expected", "asked"),
    [
        (errno.ENOENT, Asked(path=b"/missing")),
        (errno.ENOENT, Asked(path=b"")),
        (errno.EBADF, Asked(path=b"relative", dfd=9999)),
        (errno.ENOTDIR, Asked(path=b"/extsys/agent/x")),
        (errno.ENAMETOOLONG, Asked(path=b"/" + b"x" * 256)),
    ],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else "",
)
def test_errors_of_the_path(kit: Kit, expected: int, asked: Asked) -> None:
    assert kit.call(asked).errno == expected


@pytest.mark.prop("P17")
def test_the_order_of_errors(kit: Kit) -> None:
    """Each with all that come later provoked as well."""
    gone = at(ARENA, AREA_BYTES)
    worst = Asked(
        args=gone, flags=1 << 31, offset=-1, label=b"", label_offset=4096, path=b"/missing"
    )
    mended: tuple[tuple[int, dict[str, Any]], ...] = (
        (errno.EFAULT, {}),
        (errno.EINVAL, {"args": at(ARENA)}),
        (errno.EINVAL, {"flags": 0}),
        (errno.EFAULT, {"offset": 0}),
        (errno.ENOENT, {"label": LABEL, "label_offset": 0}),
        (0, {"path": b"/"}),
    )
    for expected, change in mended:
        worst = dataclasses.replace(worst, **change)
        assert kit.call(worst).errno == expected, worst
    # Of the two EINVAL, each alone.
    assert kit.call(Asked(flags=1 << 31)).errno == errno.EINVAL
    assert kit.call(Asked(offset=-1)).errno == errno.EINVAL


@pytest.mark.prop("P20")
def test_the_descriptor(kit: Kit) -> None:
    """Close-on-exec by a flag of its own; the lowest free number; none left by an error."""
    flag = kit.constant("XYZZYAT_CLOEXEC")
    assert flag != kit.interface.constant("O_CLOEXEC", "fcntl.h")
    assert not flag & kit.constant("AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW")
    program = Program()
    lowest = program.syscall(kit.number("dup"), 0)
    program.syscall(kit.number("close"), lowest)
    kit.prepare(program, Asked())
    get = kit.interface.constant("F_GETFD", "linux/fcntl.h")
    fds, shown = [], []
    for flags in (0, flag):
        path = at(SCRATCH, PATH_AT)
        for wrong in (Asked(offset=-1, flags=flags), Asked(dfd=9999, path=b"x", flags=flags)):
            if wrong.path != b"/":
                program.write(SCRATCH, PATH_AT, wrong.path + b"\0")
            program.syscall(kit.number("xyzzyat"), *kit.registers(wrong, path))
            program.write(SCRATCH, PATH_AT, b"/\0")
        fd = program.syscall(kit.number("xyzzyat"), *kit.registers(Asked(flags=flags), path))
        shown.append(program.syscall(kit.number("fcntl"), fd, get, 0))
        fds.append(fd)
        program.syscall(kit.number("close"), fd)
    kit.clean(program)
    results = kit.interface.caller.run(program)
    assert [results[fd.index].ret for fd in fds] == [results[lowest.index].ret] * 2
    assert [results[one.index].ret for one in shown] == [0, fcntl.FD_CLOEXEC]


@pytest.mark.prop("P20")
def test_reading_and_polling(kit: Kit) -> None:
    """Readable at once and at the end; in pieces; nothing to seek in or to write to."""
    program = Program()
    fd = kit.place(program, Asked())
    program.syscall(kit.number("dup3"), fd, 200, 0)
    readable = kit.interface.constant("POLLIN | POLLRDNORM", "poll.h")
    events = readable | kit.interface.constant("POLLOUT | POLLERR | POLLHUP", "poll.h")
    pollfd = (200).to_bytes(4, "little") + events.to_bytes(2, "little") + b"\xff\xff"
    program.write(SCRATCH, STAT_AT, pollfd)
    polled = program.syscall(kit.number("poll"), at(SCRATCH, STAT_AT), 1, 0)
    revents = program.read(SCRATCH, STAT_AT + 6, 2)
    bad = program.syscall(kit.number("read"), fd, 0, 8)
    pieces = [
        program.syscall(kit.number("read"), fd, at(SCRATCH, RECORD_AT + start), 8)
        for start in range(0, kit.record.size, 8)
    ]
    record = program.read(SCRATCH, RECORD_AT, kit.record.size)
    end = program.syscall(kit.number("read"), fd, at(SCRATCH, RECORD_AT), 8)
    seek = program.syscall(kit.number("lseek"), fd, 0, 0)
    write = program.syscall(kit.number("write"), fd, at(SCRATCH, RECORD_AT), 8)
    program.syscall(kit.number("close"), 200)
    program.syscall(kit.number("close"), fd)
    kit.clean(program)
    results = kit.interface.caller.run(program)
    assert results[polled.index].ret == 1
    assert int.from_bytes(results[revents.index].data, "little") == readable
    assert results[bad.index].errno == errno.EFAULT
    assert [results[one.index].ret for one in pieces] == [8] * 9
    assert results[end.index].ret == 0
    assert results[seek.index].errno == errno.ESPIPE
    assert results[write.index].errno == errno.EBADF
    data = results[record.index].data
    assert kit.record.get(data, "offset") == Asked().offset
    label = kit.record.field("label")
    assert data[label.offset : label.end] == LABEL.ljust(32, b"\0")
