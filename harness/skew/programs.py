# SPDX-License-Identifier: GPL-2.0-only
"""Programs of every release: one C source, compiled with the headers of its day.

What a program takes the struct to be is read out of the DWARF of the very file
that runs in the guest: nobody types it, and nothing else was compiled.  What
the program should have printed comes from the model, which plays the kernel.
"""

from __future__ import annotations

import dataclasses
import errno as codes
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness import layout as layouts
from harness import model
from harness.abi import ABI
from harness.caller import build as callers
from harness.contract import Contract, SizeField
from harness.identity import Peer
from harness.layout import Compiler, Layout
from vm import proc
from vm.errors import BuildError, InfraError

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "program.c"
#: What fills a record's buffer before it is read (program.c:show).
FILL = 0x5A
#: A field's value: the program's own pid.
SELF = -1
#: How long a program may take, in seconds; it takes milliseconds.
SECONDS = 30.0
#: A process that names itself is refused by nobody.
ITSELF = Peer(name="the program itself", identity=None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Release:
    """One release of the interface, as a program meets it: a set of headers."""

    version: str  #: the newest version of the struct in it
    variant: str | None  #: the kernel variant whose headers_install has it; None: ``overlay``
    overlay: Path | None = None  #: an include directory in front of the newest kernel's
    why: str  #: what a program of it shows


#: From the oldest to the newest.
RELEASES: tuple[Release, ...] = (
    Release(version="VER0", variant="ver0", why="the first: it must run on every later kernel"),
    Release(version="VER1", variant="ver1", why="older than VER2, newer than VER0"),
    Release(version="VER2", variant="ver2", why="the newest that a kernel knows"),
    Release(
        version="VER3",
        variant=None,
        overlay=HERE / "ver3",
        why="the future, of which no kernel knows: newer than every one",
    ),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """A program of one release in one ABI."""

    version: str
    abi: ABI
    path: Path  #: the static executable
    layout: Layout  #: the struct that it has
    sizes: Mapping[str, int]  #: each version that its headers name → bytes


def _digest(compiler: Compiler) -> str:
    """All that a program depends on; a kernel's headers are named by their content."""
    state = hashlib.sha256()
    version = proc.run([compiler.cc, "--version"], timeout=SECONDS, quiet=True).out
    state.update(SOURCE.read_bytes())
    state.update(repr((version.partition("\n")[0], callers.FLAGS, str(compiler.headers))).encode())
    for path in sorted(compiler.before.rglob("*.h")) if compiler.before else ():
        state.update(path.read_bytes())
    return state.hexdigest()[:20]


def build(
    release: Release, abi: ABI, *, compiler: Compiler, contract: Contract, cache: Path
) -> Program:
    """Compile the program of ``release`` as ``abi``; ``compiler`` has its headers.

    Raises BuildError with the compiler's words, or when the headers are not of
    that release.
    """
    where = cache / "callers" / f"skew-{_digest(compiler)}"
    flags = ["-g", *(flag for flag in callers.FLAGS if flag != "-s")]
    path = callers.link(compiler, abi, (SOURCE,), where / f"program-{abi.name}", flags=flags)
    found = layouts.from_dwarf(path, contract.struct)
    if found is None:
        raise BuildError(f"{path}: its DWARF has no struct {contract.struct}")
    prefix = f"{contract.struct.upper()}_SIZE_"
    names = [name.removeprefix(prefix) for name in _macros(compiler, abi, contract, prefix)]
    sizes = layouts.constants(
        compiler,
        abi,
        includes=(contract.header,),
        expressions={name: prefix + name for name in names},
    )
    if sizes.get(release.version) != found.size or found.size != max(sizes.values()):
        raise BuildError(
            f"{release.version}: struct {contract.struct} of these headers is {found.size} bytes,"
            f" and its versions are {sizes}"
        )
    return Program(version=release.version, abi=abi, path=path, layout=found, sizes=sizes)


def _macros(compiler: Compiler, abi: ABI, contract: Contract, prefix: str) -> list[str]:
    """The names with this prefix that the contract's header defines."""
    argv = [*compiler.argv(abi), "-E", "-dM", "-include", contract.header, "-x", "c", "/dev/null"]
    out = proc.run(argv, timeout=SECONDS, quiet=True).out
    return sorted(re.findall(rf"^#define ({re.escape(prefix)}VER\d+) ", out, re.MULTILINE))


# What a program prints.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attempt:
    """One call that a program made."""

    usize: int  #: what it put into the size
    errno: int
    size: int  #: what the size was afterwards

    def __str__(self) -> str:
        changed = f", size set to {self.size}" if self.size != self.usize else ""
        return f"usize {self.usize}: {model.ending(self.errno)}{changed}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """What read(2) gave a program."""

    got: int  #: bytes, or -1
    errno: int
    data: bytes  #: the program's whole struct, what was not written included

    def __str__(self) -> str:
        if self.got < 0:
            return f"read: {model.ending(self.errno)}"
        return f"read: {self.got} bytes {self.data[: self.got].hex()}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transcript:
    """One run of a program."""

    pid: int
    sizeof: int
    sizes: Mapping[str, int]
    attempts: tuple[Attempt, ...]
    record: Record | None  #: None: no call was accepted

    def __str__(self) -> str:
        steps = [str(one) for one in self.attempts]
        return "; ".join([*steps, str(self.record)] if self.record else steps)


def parse(output: str) -> Transcript:
    """Read what a program printed.  Raises InfraError when it is not a transcript."""
    try:
        lines = [_line(text) for text in output.splitlines()]
        (head,) = [values for what, values in lines if what == "headers"]
        records = [values for what, values in lines if what == "read"]
        record = None
        if records:
            (only,) = records
            record = Record(
                got=int(only["got"]),
                errno=int(only["errno"]),
                data=bytes.fromhex(only["record"]),
            )
        return Transcript(
            pid=int(head.pop("pid")),
            sizeof=int(head.pop("sizeof")),
            sizes={name: int(value) for name, value in head.items()},
            attempts=tuple(
                Attempt(**{name: int(value) for name, value in values.items()})
                for what, values in lines
                if what == "call"
            ),
            record=record,
        )
    except (ValueError, KeyError, TypeError) as exc:
        raise InfraError(f"the program printed no transcript ({exc}): {output[:400]!r}") from exc


def _line(text: str) -> tuple[str, dict[str, str]]:
    what, *pairs = text.split()
    return what, dict(pair.split("=", 1) for pair in pairs)


def arguments(fields: Mapping[str, int]) -> list[str]:
    """The fields as a program's command line."""
    return [
        f"{name}={'self' if value == SELF else f'{value:#x}'}" for name, value in fields.items()
    ]


# What it should print.


def expected(
    contract: Contract, kernel: Layout, program: Program, fields: Mapping[str, int], *, pid: int = 0
) -> Transcript:
    """What a program prints on a kernel that keeps the contract and has this layout.

    ``pid`` is the program's own.
    """
    where = contract.size
    assert isinstance(where, SizeField)  # program.c has its size in the struct
    layout = program.layout
    itself = [name for name, value in fields.items() if value == SELF]
    memory = layout.new(**{**fields, **dict.fromkeys(itself, pid)})
    usize = layout.size
    attempts: list[Attempt] = []
    record = None
    while True:
        layout.put(memory, where.field, usize)
        call = model.Call(
            usize=usize,
            memory=bytes(memory),
            peer=(itself[0], ITSELF) if itself else None,
        )
        allowed = model.outcome(contract, kernel, call)
        size = usize if allowed.written is None else allowed.written
        attempts.append(Attempt(usize=usize, errno=allowed.errno, size=size))
        if allowed.held is not None:
            record = _record(allowed.held, layout)
        older = allowed.errno == codes.E2BIG and min(program.sizes.values()) <= size < layout.size
        if not older or len(attempts) > 1:
            break
        memory[size:] = bytes(layout.size - size)
        usize = size
    return Transcript(
        pid=pid, sizeof=layout.size, sizes=program.sizes, attempts=tuple(attempts), record=record
    )


def _record(held: bytes, layout: Layout) -> Record:
    """The kernel's struct as a program reads it: cut to the struct that it has."""
    shown = held[: layout.size]
    return Record(got=len(shown), errno=0, data=shown.ljust(layout.size, bytes([FILL])))


def scenarios(
    program: Program, values: Mapping[str, int], *, first: int
) -> Sequence[tuple[str, Mapping[str, int]]]:
    """What programs of this release ask for: (in words, fields).

    Only the first version's fields, whose size is ``first``; then each later
    one beside them; then everything.  Names with two underscores are reserved,
    and no program sets them.
    """
    size_field = program.layout.fields[0].name
    plain = {
        field.name: values[field.name]
        for field in program.layout.fields
        if field.end <= first and field.name in values and field.name != size_field
    }
    later = {
        field.name: values[field.name]
        for field in program.layout.fields
        if field.offset >= first and values.get(field.name) and not field.name.startswith("__")
    }
    found = [("new fields zero", plain)]
    found += [(f"{name} set", {**plain, name: value}) for name, value in later.items()]
    if len(later) > 1:
        found.append(("all set", {**plain, **later}))
    return found
