# SPDX-License-Identifier: GPL-2.0-only
"""A contract, an ABI and a target brought together: what a test is given.

def test_flags(interface: Interface) -> None:
    interface.verify(Sweep(dims=(Dim(kind=Kind.ARG_BIT, index=1, start=0, stop=32),)))
"""

from __future__ import annotations

import dataclasses
from functools import cached_property

from harness import layout as layouts
from harness import model, sweep
from harness.abi import ABI
from harness.contract import Contract
from harness.layout import Compiler, Layout
from harness.program import ARENA, SCRATCH, Argument, Entry, Program, Result, at
from harness.sweep import Mismatch, Sweep, SweepResult
from harness.target import Caller, Target

#: Mismatches that an assertion shows; the rest are counted.
SHOWN = 8
#: A sweep's own deadline for one call that blocks, in milliseconds.
SWEEP_DEADLINE_MS = 2000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Observed:
    """What one call did, in the model's words."""

    errno: int
    written: int | None
    held: bytes | None  #: what read(2) gave, when a descriptor was returned
    results: tuple[Result, ...]  #: of the whole program, for a closer look


class Interface:
    """One interface, called in one ABI's way on one target."""

    def __init__(self, contract: Contract, abi: ABI, *, compiler: Compiler, target: Target) -> None:
        self.contract = contract
        self.abi = abi
        self.compiler = compiler
        self.target = target

    @property
    def caller(self) -> Caller:
        return self.target.caller(self.abi)

    @cached_property
    def layout(self) -> Layout:
        """The struct as this kernel's header and this ABI's compiler have it."""
        return layouts.layout(
            self.compiler,
            self.abi,
            struct=self.contract.struct,
            fields=layouts.field_names(self.contract.declaration, self.contract.struct),
            includes=(self.contract.header,),
        )

    @property
    def ksize(self) -> int:
        """The kernel's size of the struct, bytes."""
        return self.layout.size

    def constant(self, expression: str, *includes: str) -> int:
        """A constant expression of C in this ABI, from this kernel's headers."""
        names = includes or (self.contract.header,)
        found = layouts.constants(
            self.compiler, self.abi, includes=names, expressions={"value": expression}
        )
        return found["value"]

    def number(self, name: str) -> int:
        """A system call's number in this ABI; x32's has bit 30 set."""
        return self.constant(f"__NR_{name}", "asm/unistd.h")

    @cached_property
    def own_number(self) -> int:
        return self.constant(self.contract.number, "asm/unistd.h")

    def example(self, *, usize: int | None = None, **fields: int) -> bytes:
        """An accepted struct of ``usize`` bytes (the kernel's own size by default)."""
        size = self.ksize if usize is None else usize
        values = {**self.contract.example, self.contract.size.field: size, **fields}
        length = max(size, self.contract.size.end)
        return bytes(self.layout.new(length=length, **values))

    # One call.

    def predict(
        self, memory: bytes, *, hole: int | None = None, args: dict[int, int] | None = None
    ) -> model.Outcome:
        """What the contract allows for a struct with these bytes."""
        where = self.contract.size
        usize = int.from_bytes(memory[where.offset : where.end], "little")
        call = model.Call(usize=usize, memory=memory, hole=hole, args=args or {})
        return model.outcome(self.contract, self.layout, call)

    def registers(self, pointer: Argument, args: dict[int, int] | None = None) -> list[Argument]:
        """All six argument registers of a call."""
        values: list[Argument] = [0] * 6
        for index, value in (args or {}).items():
            values[index] = value
        values[self.contract.pointer] = pointer
        return values

    def observe(
        self,
        memory: bytes,
        *,
        pointer: Argument | None = None,
        args: dict[int, int] | None = None,
        prepare: Program | None = None,
        entry: Entry = Entry.NATIVE,
    ) -> Observed:
        """Make one call with the struct in the arena's second page, and see its effect.

        ``prepare`` is a program to go before; with it, or with a ``pointer``
        of the caller's own, the memory is the caller's business, too.
        """
        program = prepare or Program()
        where = at(ARENA, 4096)
        if prepare is None:
            program.reset()
        if pointer is None:
            program.write(ARENA, 4096, memory)
        call = program.syscall(
            self.own_number,
            *self.registers(where if pointer is None else pointer, args),
            entry=entry,
        )
        length = self.ksize + sweep.BUFFER_SPARE
        program.fill(SCRATCH, 0, length, sweep.BUFFER_FILL)
        got = program.syscall(self.number("read"), call, at(SCRATCH), length)
        shown = program.read(SCRATCH, 0, length)
        program.syscall(self.number("close"), call)
        after = None
        if pointer is None:
            after = program.read(ARENA, 4096, len(memory))
        results = self.caller.run(program)
        mine = results[call.index]
        written = None
        if after is not None:
            size = self.contract.size
            old, new = memory[size.offset : size.end], results[after.index].data
            if new[size.offset : size.end] != old:
                written = int.from_bytes(new[size.offset : size.end], "little")
        held = None
        if not mine.errno and not results[got.index].errno:
            held = results[shown.index].data[: results[got.index].ret]
        return Observed(errno=mine.errno, written=written, held=held, results=tuple(results))

    def check(
        self,
        memory: bytes,
        *,
        hole: int | None = None,
        pointer: Argument | None = None,
        args: dict[int, int] | None = None,
        prepare: Program | None = None,
        entry: Entry = Entry.NATIVE,
    ) -> Observed:
        """Make one call and assert that the contract allows what came of it."""
        allowed = self.predict(memory, hole=hole, args=args)
        seen = self.observe(memory, pointer=pointer, args=args, prepare=prepare, entry=entry)
        assert seen.errno == allowed.errno, (
            f"{self.abi.name}: {self.contract.name}() gave {model.errno_name(seen.errno)}, "
            f"the contract says {allowed} ({allowed.why})"
        )
        if pointer is None:
            assert seen.written == allowed.written, (
                f"{self.abi.name}: the size field reads {seen.written}, "
                f"the contract says {allowed.written}"
            )
        assert seen.held == allowed.held, (
            f"{self.abi.name}: the kernel holds {seen.held!r}, the contract says {allowed.held!r}"
        )
        return seen

    # Many calls.

    def sweep(self, rule: Sweep) -> SweepResult:
        """Run a sweep to its end."""
        after = sweep.read_back_ops(
            read=self.number("read"), close=self.number("close"), ksize=self.ksize
        )
        payload = sweep.encode(
            rule,
            self.contract,
            number=self.own_number,
            after=after,
            deadline_ms=SWEEP_DEADLINE_MS,
        )
        return self.caller.sweep(payload)

    def mismatches(self, rule: Sweep) -> list[Mismatch]:
        """Where the kernel did what the contract does not allow."""
        return sweep.compare(rule, self.contract, self.layout, self.sweep(rule))

    def verify(self, *rules: Sweep) -> None:
        """Run sweeps and assert that every outcome is the allowed one."""
        found = [mismatch for rule in rules for mismatch in self.mismatches(rule)]
        if not found:
            return
        lines = [f"{self.abi.name}: {self.contract.name}() breaks its contract:"]
        lines += [str(mismatch) for mismatch in found[:SHOWN]]
        if len(found) > SHOWN:
            lines.append(f"… and {len(found) - SHOWN} further ranges")
        raise AssertionError("\n".join(lines))

    def template(self, **fields: int) -> bytes:
        """The example's bytes for a sweep, which sets the size by itself."""
        return bytes(self.layout.new(**{**self.contract.example, **fields}))
