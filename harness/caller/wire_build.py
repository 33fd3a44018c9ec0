# SPDX-License-Identifier: GPL-2.0-only
"""Make `harness.caller._wire`, the wire format for Python, out of wire.h.

Run when the package is built.  cffi's parser reads the structs and constants
of the very file that the C programs include, and the C compiler confirms each
size, offset and value: nothing of the format is typed twice.
"""

from __future__ import annotations

from pathlib import Path

import cffi

HERE = Path(__file__).resolve().parent


def declarations(text: str) -> str:
    """wire.h without what cffi's parser has no use for: guards and includes."""
    dropped = ("#ifndef", "#include", "#endif", "#define WIRE_H\n")
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(dropped))


ffi = cffi.FFI()
ffi.cdef(declarations((HERE / "wire.h").read_text()))
ffi.set_source("harness.caller._wire", '#include "wire.h"', include_dirs=[str(HERE)])

if __name__ == "__main__":
    ffi.compile(verbose=True)
