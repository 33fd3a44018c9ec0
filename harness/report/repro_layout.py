# SPDX-License-Identifier: GPL-2.0-only
"""A layout that is not as declared, as a C program that says so.

It includes the kernel's own UAPI header, so it is compiled against that
kernel's `headers_install`, and compares sizeof and every offset with what the
contract declares.
"""

from __future__ import annotations

from pathlib import Path

from harness.interface import Interface

_CHECK = '\tcheck("{what}", {expression}, {wanted});'

_PROGRAM = """\
// SPDX-License-Identifier: GPL-2.0-only
/*
 * struct {struct} of <{header}>, as {abi}: is it laid out as it was declared?
 *
 *	gcc {flag} -static -O2 -Wall -isystem HEADERS/include -o repro {name}
 *
 * HEADERS is where that kernel's `make headers_install` went.  Exits 1 while
 * the header and the declaration differ, 0 when they agree.
 */
#include <stddef.h>
#include <stdio.h>
#include <{header}>

static int differs;

static void check(const char *what, size_t is, size_t declared)
{{
	if (is == declared)
		return;
	printf("%s is %zu, declared %zu\\n", what, is, declared);
	differs = 1;
}}

int main(void)
{{
{checks}
	if (!differs)
		printf("struct {struct} is laid out as declared\\n");
	return differs;
}}
"""


def write(interface: Interface, directory: Path, *, number: int) -> Path:
    """Write the program for this interface's struct; its path."""
    contract, abi, declared = interface.contract, interface.abi, interface.declared
    name = f"repro-{contract.name}-P14-{abi.name}-{number}.c"
    struct = f"struct {contract.struct}"
    checks = [_CHECK.format(what="its size", expression=f"sizeof({struct})", wanted=declared.size)]
    checks += [
        _CHECK.format(
            what=field.name, expression=f"offsetof({struct}, {field.name})", wanted=field.offset
        )
        for field in declared.fields
    ]
    path = directory / name
    directory.mkdir(parents=True, exist_ok=True)
    path.write_text(
        _PROGRAM.format(
            struct=contract.struct,
            header=contract.header,
            abi=abi.name,
            flag=abi.cflag,
            name=name,
            checks="\n".join(checks),
        )
    )
    return path
