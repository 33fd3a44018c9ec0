# SPDX-License-Identifier: GPL-2.0-only
"""The record: "Adding a New System Call", demand by demand, and what proves each.

docs/document.toml has the rows; docs/document.md is made from them, and
selftests/host/test_document.py sees to it that every check that a row names is
one that there is.
"""

from __future__ import annotations

import dataclasses
import itertools
import textwrap
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

from vm import paths
from vm.errors import InfraError

DOCS = paths.VM.parent / "docs"
TABLE = DOCS / "document.toml"
PAGE = DOCS / "document.md"

#: The document's headings, but for its references.
SECTIONS = (
    "System Call Alternatives",
    "Designing the API: Planning for Extension",
    "Designing the API: Other Considerations",
    "Proposing the API",
    "Generic System Call Implementation",
    "x86 System Call Implementation",
    "Compatibility System Calls (Generic)",
    "Compatibility System Calls (x86)",
    "System Calls Returning Elsewhere",
    "Other Details",
    "Testing",
    "Man Page",
)
#: What a check of a row can be, and who runs it.
KINDS = {
    "battery": "the battery, on xyzzy(2)",
    "test": "a test of selftests/",
    "uml": "the battery, on xyzzy(2) in user-mode Linux: `make uml-test`",
    "ltp": "a test for LTP, run where LTP is",
    "kselftest": "the kernel's own selftest",
    "series": "`make series-check`",
    "mutant": "a fault that has to be found: `make mutants`",
}
HEAD = """\
<!-- SPDX-License-Identifier: GPL-2.0-only -->
# The document, demand by demand

What [Adding a New System Call](https://docs.kernel.org/process/adding-syscalls.html) asks for, in
the edition for Linux 4.14, which this project was made from: what it says, what was done, where,
and which check proves it.

This page is made from `docs/document.toml` by `python -m harness record`. A row that names a check,
a file or a symbol that there is not fails `make test`, and so does a row of whose checks `make
test` runs none.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One demand."""

    section: str  #: one of SECTIONS
    says: str  #: what the document asks for
    did: str
    where: tuple[str, ...]  #: FILE of the patched tree, or FILE:TEXT that stands in it
    checks: tuple[str, ...]  #: KIND:NAME
    since: str  #: what has changed since the document; empty: nothing


def load(path: Path = TABLE) -> tuple[Row, ...]:
    """The rows, in their order.  Raises InfraError when the file is damaged."""
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8"))["row"]
        return tuple(
            Row(**{**row, "where": tuple(row["where"]), "checks": tuple(row["checks"])})
            for row in rows
        )
    except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError) as exc:
        raise InfraError(f"{path}: not a record: {exc}") from exc


def render(rows: Sequence[Row]) -> str:
    """The page."""
    parts = [HEAD]
    for section, several in itertools.groupby(rows, key=lambda row: row.section):
        parts.append(f"## {section}\n")
        parts += ["\n".join(_row(row)) + "\n" for row in several]
    return "\n".join(parts)


def _row(row: Row) -> Iterator[str]:
    yield from _wrapped(f"**{row.says}**")
    yield ""
    yield from _wrapped(row.did)
    yield ""
    yield from _wrapped("- where: " + ", ".join(f"`{one}`" for one in row.where), indent="  ")
    yield from _wrapped("- proved by: " + ", ".join(f"`{one}`" for one in row.checks), indent="  ")
    if row.since:
        yield from _wrapped(f"- since then: {row.since}", indent="  ")


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        124,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
