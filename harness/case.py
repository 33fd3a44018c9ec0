# SPDX-License-Identifier: GPL-2.0-only
"""One call, with its memory laid out: enough to make it, predict it and write it down in C."""

from __future__ import annotations

import dataclasses
import enum

from harness import model
from harness.abi import Way
from harness.contract import (
    Bytes,
    Constant,
    Contract,
    Flags,
    Half,
    Made,
    Pointer,
    SizeArg,
    SizeField,
    SizeFixed,
    SizeIoctl,
    SizeValue,
    Value,
    Wide,
)
from harness.identity import Identity, Peer
from harness.layout import Layout
from harness.program import AREA_BYTES, ARENA, SCRATCH, U64, Address, Argument
from vm.errors import UserError

#: Bytes of a page, and of what lies before a struct in the arena's middle.
PAGE = 4096
#: Nonzero bytes of a tail that a description names.
NAMED_BYTES = 4


class Protection(enum.Enum):
    """What the struct's pages allow when the call is made."""

    READ_WRITE = "PROT_READ | PROT_WRITE"
    READ = "PROT_READ"
    NONE = "PROT_NONE"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One call of an interface.

    ``memory`` are the bytes from the struct's first one on, as they are when
    the call is made.  ``hole`` is the offset of the first byte that is not
    there: the struct then lies so that this byte is an inaccessible page's
    first.  ``pointer`` is a literal address instead of a struct.
    """

    usize: int
    memory: bytes
    hole: int | None = None
    at_page_start: bool = False  #: at a page's first byte, the page before inaccessible
    shift: int = 0  #: bytes by which it is moved, up or away from the edge
    pointer: int | None = None
    flags: tuple[tuple[int, int], ...] = ()  #: (argument, value): registers, all 64 bits
    way: Way | None = None  #: into the kernel; None: the ABI's own
    protection: Protection = Protection.READ_WRITE
    who: Identity | None = None  #: who makes it; None: the caller as it is
    #: A field of eight bytes at most that gets a process's pid; ``memory`` has zeros there.
    peer: tuple[str, Peer] | None = None

    @property
    def offset(self) -> int:
        """Where in the arena the struct begins."""
        if self.hole is not None:
            return AREA_BYTES - self.hole
        return self.shift if self.at_page_start else PAGE + self.shift

    def __str__(self) -> str:
        parts = [f"usize {self.usize}"]
        if self.pointer is not None:
            parts = [f"pointer {self.pointer:#x}"]
        parts += [f"argument {index} = {value:#x}" for index, value in self.flags if value]
        if self.hole is not None:
            parts.append(f"inaccessible from byte {self.hole} on")
        if self.shift:
            parts.append(f"moved by {self.shift}")
        if self.protection is not Protection.READ_WRITE:
            parts.append(self.protection.value)
        if self.way is not None:
            parts.append(f"by {self.way.name}")
        if self.who is not None:
            parts.append(f"as {self.who.name}" if self.who.uid is not None else self.who.name)
        if self.peer is not None:
            parts.append(f"{self.peer[0]} = the pid of {self.peer[1].name}")
        return ", ".join(parts)


def describe(contract: Contract, layout: Layout, case: Case, *, register: int) -> str:
    """The call in words, with what differs from the contract's example."""
    parts = [str(case)]
    if case.at_page_start:
        parts.append("at a page's first byte")
    if case.pointer is not None:
        return ", ".join(parts)
    usize = effective_usize(contract, case, register=case.way.register if case.way else register)
    length = max(min(usize or contract.zero_means or 0, len(case.memory)), contract.field_end)
    own = contract.size.field if isinstance(contract.size, SizeField) else None
    for field in layout.fields:
        value = layout.get(case.memory, field.name)
        plain = contract.example.get(field.name, 0) % (1 << 8 * field.size)
        if field.end <= length and field.name != own and value != plain:
            parts.append(f"{field.name} = {value:#x}")
    tail = [at for at in range(layout.size, length) if case.memory[at]]
    parts += [f"byte {at} = {case.memory[at]:#04x}" for at in tail[:NAMED_BYTES]]
    if len(tail) > NAMED_BYTES:
        parts.append(f"and {len(tail) - NAMED_BYTES} further bytes up to {tail[-1]}")
    if case.memory[length:].strip(b"\0"):
        parts.append("nonzero bytes behind usize")
    return ", ".join(parts)


def with_usize(contract: Contract, memory: bytes, usize: int) -> bytes:
    """The memory with its size field set, where the contract has one."""
    where = contract.size
    if not isinstance(where, SizeField):
        return memory
    data = bytearray(memory.ljust(where.end, b"\0"))
    data[where.offset : where.end] = (usize % (1 << 8 * where.width)).to_bytes(
        where.width, "little"
    )
    return bytes(data)


def effective_usize(contract: Contract, case: Case, *, register: int) -> int:
    """The size as the kernel takes it: cut to the field's or the register's width (bits)."""
    match contract.size:
        case SizeField(offset=start, end=end):
            return int.from_bytes(case.memory[start:end], "little")
        case SizeArg(width=width):
            return case.usize % (1 << min(width, register))
        case SizeIoctl(most=most):
            return case.usize & most
        case SizeFixed():
            return contract.versions[-1].size


def registers(contract: Contract, case: Case) -> list[Argument]:
    """All six argument registers of the call."""
    values: list[Argument] = []
    given = dict(case.flags)
    for index, arg in enumerate(contract.args):
        match arg:
            case Pointer():
                struct = Address(ARENA, case.offset)
                values.append(struct if case.pointer is None else case.pointer)
            case Flags():
                values.append(given.get(index, 0))
            case Value(value=value) | Wide(value=value) | Half(value=value):
                values.append(given.get(index, value))
            case Bytes():
                values.append(Address(SCRATCH, contract.data_at(index)))
            case Made(step=name) | Constant(name=name):
                raise UserError(f"contract {contract.name}: {name} was not made")
            case SizeValue(base=base):
                shift = 16 if isinstance(contract.size, SizeIoctl) else 0
                values.append((base | case.usize << shift) & U64)
    return values + [0] * (6 - len(values))


def predict(contract: Contract, layout: Layout, case: Case, *, register: int) -> model.Outcome:
    """What the contract allows, for a caller whose registers have ``register`` bits."""
    if case.way is not None:
        register = case.way.register
    hole = case.hole
    if case.pointer is not None or case.protection is Protection.NONE:
        hole = 0
    call = model.Call(
        usize=effective_usize(contract, case, register=register),
        memory=case.memory,
        hole=hole,
        null=case.pointer is not None and not case.pointer % (1 << register),
        args={index: value % (1 << register) for index, value in case.flags},
        who=case.who,
        peer=case.peer,
    )
    found = model.outcome(contract, layout, call)
    if found.filled and case.protection is Protection.READ:
        # What is to be written cannot be.
        return model.Outcome(errno=contract.copy.errno, why="Copy")
    return found
