# SPDX-License-Identifier: GPL-2.0-only
"""Sizes, offsets and constants per ABI, as the compiler has them.

cffi knows a struct's fields from its C declaration; the compiler knows where
they are.  For each ABI a translation unit is compiled, never run, with that
ABI's flag, and the values are read out of the object file: so a `long`, an
`__aligned_u64` or a tail padding that moves is seen before anything boots.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cffi
from elftools.dwarf.die import DIE
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from harness.abi import ABI
from vm import proc
from vm.errors import BuildError, UserError

#: What a UAPI header's integer types are, for cffi's parser, which knows no
#: attributes.  Only names and order of fields are taken from it, no offset.
CDEF_TYPES = """
typedef uint8_t __u8; typedef int8_t __s8; typedef uint16_t __u16; typedef int16_t __s16;
typedef uint32_t __u32; typedef int32_t __s32; typedef uint64_t __u64; typedef int64_t __s64;
typedef uint64_t __aligned_u64; typedef int64_t __aligned_s64; typedef long __kernel_long_t;
"""

#: Which change where a field is, but not its name.
_ATTRIBUTE = re.compile(r"__attribute__\s*\(\((?:[^()]|\([^()]*\))*\)\)")

#: How long one small translation unit may take, in seconds.
COMPILE_SECONDS = 60.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Field:
    """One member of a struct, in one ABI."""

    name: str
    offset: int  #: bytes
    size: int  #: bytes

    @property
    def end(self) -> int:
        """Offset of the first byte behind it."""
        return self.offset + self.size


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """A struct as one ABI's compiler lays it out.  All in bytes."""

    struct: str
    size: int
    align: int
    fields: tuple[Field, ...]

    def has(self, name: str) -> bool:
        """Whether there is a field of that name."""
        return any(one.name == name for one in self.fields)

    def field(self, name: str) -> Field:
        """The field of that name.  Raises UserError that lists the known ones."""
        for one in self.fields:
            if one.name == name:
                return one
        known = ", ".join(one.name for one in self.fields)
        raise UserError(f"{tag(self.struct)} has no field {name!r}", hint=f"it has {known}")

    def padding(self) -> list[tuple[int, int]]:
        """The holes between fields and behind the last, as (start, stop)."""
        holes, at = [], 0
        ordered = sorted(self.fields, key=lambda field: field.offset)
        for one in (*ordered, Field(name="", offset=self.size, size=0)):
            if one.offset > at:
                holes.append((at, one.offset))
            at = max(at, one.end)
        return holes

    def new(self, *, length: int | None = None, **values: int) -> bytearray:
        """The struct's bytes with these fields set and all others zero.

        ``length`` is in bytes; without it, the struct's own size.  A longer
        one has zeros behind, in a shorter one the fields behind it are cut.
        """
        data = bytearray(max(self.size, length or 0))
        for name, value in values.items():
            self.put(data, name, value)
        return data if length is None else data[:length]

    def put(self, data: bytearray, name: str, value: int) -> None:
        """Set one field; negative values in two's complement."""
        one = self.field(name)
        if not -(1 << one.size * 8 - 1) <= value < 1 << one.size * 8:
            raise UserError(f"{self.struct}.{name}: {value:#x} needs more than {one.size} bytes")
        value &= (1 << one.size * 8) - 1
        data[one.offset : one.end] = value.to_bytes(one.size, "little")

    def get(self, data: bytes | bytearray, name: str) -> int:
        """One field's value, unsigned."""
        one = self.field(name)
        return int.from_bytes(data[one.offset : one.end], "little")


def tag(struct: str) -> str:
    """A type's name in C: a tag alone is a struct's; a union is written `union TAG`."""
    return struct if " " in struct else f"struct {struct}"


def field_names(declaration: str, struct: str) -> tuple[str, ...]:
    """The members of ``struct`` in order, those of unnamed structs in it too.

    Raises UserError when the declaration does not parse or has no such struct.
    """
    return tuple(one.name for one in declared(declaration, struct))


@functools.lru_cache(maxsize=256)
def declared(declaration: str, struct: str) -> tuple[Field, ...]:
    """The same, each where cffi would put it: as m64 does, if nothing is packed or aligned.

    Raises UserError as field_names() does.
    """
    ffi = cffi.FFI()
    try:
        ffi.cdef(CDEF_TYPES + _ATTRIBUTE.sub("", declaration))
        members = ffi.typeof(tag(struct)).fields
    except (cffi.CDefError, cffi.FFIError, KeyError) as exc:
        raise UserError(f"the declaration of {tag(struct)}: {exc}") from exc
    if not members:
        raise UserError(f"{tag(struct)} is declared without members")
    return tuple(_fields(ffi, members, struct, 0))


def has_attributes(declaration: str) -> bool:
    """Whether a declaration has fields elsewhere than a compiler would put them by itself."""
    return bool(_ATTRIBUTE.search(declaration))


def _fields(
    ffi: cffi.FFI, members: Iterable[tuple[str, Any]], struct: str, start: int
) -> Iterator[Field]:
    for name, member in members:
        if member.bitsize >= 0:
            raise UserError(
                f"{tag(struct)}: {name} is a bit-field, which has no offset",
                hint="declare the integer that holds it",
            )
        if name:
            yield Field(name=name, offset=start + member.offset, size=ffi.sizeof(member.type))
        else:
            yield from _fields(ffi, member.type.fields, struct, start + member.offset)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compiler:
    """What compiles for the three ABIs: a compiler and a kernel's headers."""

    headers: Path | None  #: `headers_install`'s include directory, or the host's own
    cc: str = "gcc"
    before: Path | None = None  #: an include directory that is searched before ``headers``

    def argv(self, abi: ABI) -> list[str]:
        """The command's beginning: compiler, ABI, warnings, headers."""
        places = [str(path) for path in (self.before, self.headers) if path]
        include = [word for place in places for word in ("-isystem", place)]
        return [self.cc, abi.cflag, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", *include]

    def object_file(self, abi: ABI, source: str, work: Path) -> Path:
        """Compile a translation unit in the directory ``work``.

        Raises BuildError with the compiler's words.
        """
        unit = work / "unit.c"
        unit.write_text(source)
        result = work / "unit.o"
        done = proc.run(
            [*self.argv(abi), "-fno-common", "-c", unit, "-o", result],
            timeout=COMPILE_SECONDS,
            check=False,
            quiet=True,
        )
        if done.code:
            raise BuildError(f"{abi.name}: {done.out.strip()}")
        return result

    def macros(self, abi: ABI, source: str) -> dict[str, str]:
        """The macros that are defined behind ``source``, as they are written.

        Raises BuildError with the compiler's words.
        """
        with tempfile.TemporaryDirectory(prefix="extsys-macros-") as work:
            unit = Path(work) / "unit.c"
            unit.write_text(source)
            done = proc.run(
                [*self.argv(abi), "-E", "-dM", unit],
                timeout=COMPILE_SECONDS,
                check=False,
                quiet=True,
            )
        if done.code:
            raise BuildError(f"{abi.name}: {done.out.strip()}")
        words = (line.split(maxsplit=2) for line in done.out.splitlines())
        return {word[1]: word[2] for word in words if len(word) == 3 and word[0] == "#define"}


def _read_values(path: Path, count: int) -> list[int]:
    """The 64-bit constants extsys_0 … of an object file."""
    values = {}
    with path.open("rb") as stream:
        elf = ELFFile(stream)
        table = elf.get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)  # gcc always writes one into an object
        for symbol in table.iter_symbols():
            if symbol.name.startswith("extsys_"):
                data = elf.get_section(symbol["st_shndx"]).data()
                at = symbol["st_value"]
                values[int(symbol.name.removeprefix("extsys_"))] = int.from_bytes(
                    data[at : at + 8], "little"
                )
    return [values[index] for index in range(count)]


@functools.lru_cache(maxsize=256)
def _evaluate(
    compiler: Compiler, abi: ABI, prologue: str, expressions: tuple[str, ...]
) -> tuple[int, ...]:
    lines = [prologue]
    # In a section of their own: a zero would otherwise go to .bss, which has no bytes.
    lines += [
        f'__attribute__((section(".data.extsys"))) unsigned long long extsys_{index} ='
        f" (unsigned long long)({expression});"
        for index, expression in enumerate(expressions)
    ]
    with tempfile.TemporaryDirectory(prefix="extsys-layout-") as work:
        path = compiler.object_file(abi, "\n".join(lines) + "\n", Path(work))
        return tuple(_read_values(path, len(expressions)))


def constants(
    compiler: Compiler,
    abi: ABI,
    *,
    includes: Iterable[str],
    expressions: Mapping[str, str],
    declaration: str = "",
) -> dict[str, int]:
    """Integer constant expressions of C, as this ABI's compiler evaluates them.

    ``includes`` are header names such as ``linux/xyzzy.h``; the values are
    unsigned 64-bit.  Raises BuildError with the compiler's words.
    """
    prologue = "".join(f"#include <{name}>\n" for name in ("stddef.h", *includes)) + declaration
    values = _evaluate(compiler, abi, prologue, tuple(expressions.values()))
    return dict(zip(expressions, values, strict=True))


#: Where system calls have their numbers.
UNISTD = "asm/unistd.h"


@functools.lru_cache(maxsize=16)
def _numbers(compiler: Compiler, abi: ABI) -> Mapping[str, int]:
    """Every system call's number in this ABI by its macro, out of one translation unit."""
    found = compiler.macros(abi, f"#include <{UNISTD}>\n")
    names = {name: name for name in found if name.startswith("__NR_")}
    return constants(compiler, abi, includes=(UNISTD,), expressions=names)


def number(compiler: Compiler, abi: ABI, name: str) -> int:
    """A system call's number in this ABI: ``name`` is its macro, or that without __NR_.

    Raises BuildError with the compiler's words when the headers have none.
    """
    macro = name if name.startswith("__NR_") else f"__NR_{name}"
    found = _numbers(compiler, abi)
    if macro not in found:
        found = constants(compiler, abi, includes=(UNISTD,), expressions={macro: macro})
    return found[macro]


def undefined(
    compiler: Compiler, abi: ABI, *, includes: Iterable[str], names: Iterable[str]
) -> frozenset[str]:
    """Which of these constants the headers do not have.

    An older kernel lacks some; a macro and an enumerator look alike from here.
    """
    wanted, names_of_headers = tuple(dict.fromkeys(names)), tuple(includes)

    def defined(*several: str) -> bool:
        asked = {name: name for name in several}
        try:
            constants(compiler, abi, includes=names_of_headers, expressions=asked)
        except BuildError:
            return False
        return True

    if not wanted or defined(*wanted):
        return frozenset()
    return frozenset(name for name in wanted if not defined(name))


def layout(
    compiler: Compiler,
    abi: ABI,
    *,
    struct: str,
    fields: Iterable[str],
    includes: Iterable[str] = ("linux/types.h",),
    declaration: str = "",
) -> Layout:
    """``struct``'s layout in this ABI, from a header or from a declaration of its own."""
    names = tuple(fields)
    whole = tag(struct)
    asked = {"size": f"sizeof({whole})", "align": f"_Alignof({whole})"}
    for name in names:
        asked[f"offset {name}"] = f"offsetof({whole}, {name})"
        asked[f"size {name}"] = f"sizeof((({whole} *)0)->{name})"
    found = constants(compiler, abi, includes=includes, expressions=asked, declaration=declaration)
    return Layout(
        struct=struct,
        size=found["size"],
        align=found["align"],
        fields=tuple(
            Field(name=name, offset=found[f"offset {name}"], size=found[f"size {name}"])
            for name in names
        ),
    )


@functools.lru_cache(maxsize=64)
def from_dwarf(path: Path, struct: str) -> Layout | None:
    """``struct`` as the DWARF of an object file has it: what its compiler was given.

    None when the object knows no such struct.  ``align`` is taken to be the
    largest of its members' sizes that divides its own, since DWARF has none.
    """
    with path.open("rb") as stream:
        elf = ELFFile(stream)
        for unit in elf.get_dwarf_info().iter_CUs():
            for die in unit.iter_DIEs():
                if (
                    die.tag == "DW_TAG_structure_type"
                    and "DW_AT_byte_size" in die.attributes
                    and _dwarf_name(die) == struct
                ):
                    return _dwarf_layout(struct, die)
    return None


def _dwarf_name(die: DIE) -> str:
    name = die.attributes.get("DW_AT_name")
    return name.value.decode() if name else ""


def _dwarf_layout(struct: str, die: DIE) -> Layout:
    fields = tuple(
        Field(
            name=_dwarf_name(member),
            offset=member.attributes["DW_AT_data_member_location"].value,
            size=_dwarf_size(member.get_DIE_from_attribute("DW_AT_type")),
        )
        for member in die.iter_children()
        if member.tag == "DW_TAG_member"
    )
    size = die.attributes["DW_AT_byte_size"].value
    align = max((field.size for field in fields if not size % field.size), default=1)
    return Layout(struct=struct, size=size, align=align, fields=fields)


def _dwarf_size(die: DIE) -> int:
    """Bytes of a type, through typedefs and qualifiers."""
    while "DW_AT_byte_size" not in die.attributes:
        die = die.get_DIE_from_attribute("DW_AT_type")
    return int(die.attributes["DW_AT_byte_size"].value)
