# SPDX-License-Identifier: GPL-2.0-only
"""How a UAPI header grows from version to version: at the ends of structures, and nowhere else.

scripts/check-uapi.sh says whether a header breaks something; told to let
structures grow (-i), it lets them grow in whatever way.  Here it is read out of
DWARF, in each ABI, that a field which was there is where it was, that a new one
begins behind the old structure's last byte, and that no constant has changed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

from elftools.dwarf.die import DIE
from elftools.elf.elffile import ELFFile

from vm import proc
from vm.errors import BuildError

#: One run of the compiler, in seconds.
SECONDS = 60.0
#: As `make headers_install` leaves a header (scripts/headers_install.sh).
INSTALLED = ("-D__user=",)
#: Names that the compiler and <linux/types.h> bring; none is a UAPI header's own.
TYPES = "#include <linux/types.h>\n"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
    """One field: where it is, and how many bytes it has."""

    offset: int
    size: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Struct:
    """One structure of a header, in one ABI."""

    size: int  #: bytes
    members: Mapping[str, Member]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Surface:
    """What a header shows to programs of one ABI."""

    structs: Mapping[str, Struct]
    macros: Mapping[str, str]  #: name → what it is defined as


def surface(include: Path, header: str, cflag: str, scratch: Path) -> Surface:
    """What the header ``header`` below ``include`` shows to a program of an ABI.

    Raises BuildError when it does not compile.
    """
    unit = scratch / "growth.o"
    common: list[str | Path] = ["gcc", cflag, *INSTALLED, f"-I{include}", "-x", "c"]
    flags = ["-gdwarf-4", "-fno-eliminate-unused-debug-types", "-c", "-o", str(unit), "-"]
    text = f"#include <{header}>\n"
    done = proc.run([*common, *flags], timeout=SECONDS, input=TYPES + text, check=False, quiet=True)
    if done.code:
        raise BuildError(f"{header}: does not compile: {done.out.strip()}")
    base = _macros([*common, "-E", "-dM", "-"], TYPES)
    mine = _macros([*common, "-E", "-dM", "-"], TYPES + text)
    new = {name: value for name, value in mine.items() if name not in base}
    return Surface(structs=dict(_structs(unit)), macros=new)


def _macros(argv: list[str | Path], text: str) -> dict[str, str]:
    out = proc.run(argv, timeout=SECONDS, input=text, quiet=True).out
    words = (line.split(" ", 2) for line in out.splitlines() if line.startswith("#define "))
    return {one[1]: one[2] if len(one) > 2 else "" for one in words}


def _structs(path: Path) -> Iterator[tuple[str, Struct]]:
    with path.open("rb") as file:
        for unit in ELFFile(file).get_dwarf_info().iter_CUs():
            for die in unit.get_top_DIE().iter_children():
                if die.tag == "DW_TAG_structure_type" and "DW_AT_name" in die.attributes:
                    if "DW_AT_byte_size" not in die.attributes:
                        continue  # named and not defined
                    members = {
                        _name(one): Member(
                            offset=int(one.attributes["DW_AT_data_member_location"].value),
                            size=_size(one),
                        )
                        for one in die.iter_children()
                        if one.tag == "DW_TAG_member"
                    }
                    size = int(die.attributes["DW_AT_byte_size"].value)
                    yield _name(die), Struct(size=size, members=members)


def _name(die: DIE) -> str:
    value: bytes = die.attributes["DW_AT_name"].value
    return value.decode()


def _size(die: DIE) -> int:
    """Bytes of what a member, a typedef or an array is made of."""
    if "DW_AT_byte_size" in die.attributes:
        return int(die.attributes["DW_AT_byte_size"].value)
    of = die.get_DIE_from_attribute("DW_AT_type")
    size = _size(of)
    if die.tag == "DW_TAG_array_type":
        for one in die.iter_children():
            if "DW_AT_upper_bound" in one.attributes:
                size *= int(one.attributes["DW_AT_upper_bound"].value) + 1
    return size


def problems(old: Surface, new: Surface) -> Iterator[str]:
    """What of ``old`` is not as it was, and what of ``new`` lies where it must not."""
    for name, was in old.structs.items():
        now = new.structs.get(name)
        if now is None:
            yield f"struct {name} is gone"
            continue
        for field, place in was.members.items():
            if now.members.get(field) != place:
                yield f"struct {name}: {field} was {place}, and is {now.members.get(field)}"
        for field, place in now.members.items():
            if field not in was.members and place.offset < was.size:
                yield f"struct {name}: {field} is at {place.offset}, within the {was.size} bytes"
        if now.size < was.size:
            yield f"struct {name}: {was.size} bytes became {now.size}"
    for name, value in old.macros.items():
        if new.macros.get(name) != value:
            yield f"{name} was {value}, and is {new.macros.get(name)}"
