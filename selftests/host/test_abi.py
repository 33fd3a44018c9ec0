# SPDX-License-Identifier: GPL-2.0-only
"""harness.abi: what the table says is what the compiler does."""

from __future__ import annotations

import hosttarget
import pytest
from elftools.elf.elffile import ELFFile

from harness import layout as layouts
from harness.abi import ABI, ABIS, abi
from harness.caller.build import Programs
from harness.wire import lib
from vm.errors import UserError

EACH = pytest.mark.parametrize("one", ABIS, ids=lambda one: one.name)


@EACH
def test_the_data_model_is_the_compiler_s(one: ABI) -> None:
    found = layouts.constants(
        hosttarget.COMPILER,
        one,
        includes=("stdint.h",),
        declaration="""
            struct holder { char c; uint64_t value; };
            #ifdef __x86_64__
            enum { REGISTER = 64 };
            #else
            enum { REGISTER = 32 };
            #endif
        """,
        expressions={
            "pointer": "sizeof(void *)",
            "long": "sizeof(long)",
            "u64_align": "offsetof(struct holder, value)",
            "register": "REGISTER",
        },
    )
    assert found == {
        "pointer": one.pointer,
        "long": one.long,
        "u64_align": one.u64_align,
        "register": one.register,
    }


@EACH
def test_a_caller_is_an_elf_file_of_its_abi(one: ABI, programs: Programs) -> None:
    with programs.callers[one].open("rb") as stream:
        elf = ELFFile(stream)
        assert elf.elfclass == one.elf_class
        # x32 is the 64-bit machine in a 32-bit file.
        assert elf["e_machine"] == ("EM_386" if one.register == 32 else "EM_X86_64")
        assert elf["e_type"] == "ET_EXEC"
        segments = {segment["p_type"] for segment in elf.iter_segments()}
    assert "PT_INTERP" not in segments, "it needs a dynamic loader, which no guest has"


def test_names_and_channels_are_distinct() -> None:
    assert [one.name for one in ABIS] == ["m64", "m32", "mx32"]
    for attribute in ("cflag", "channel", "suffix"):
        assert len({getattr(one, attribute) for one in ABIS}) == len(ABIS)
    # Channel 0 is the agent's own.
    assert all(0 < one.channel < lib.WIRE_CHANNELS for one in ABIS)


def test_look_up_by_name() -> None:
    assert [abi(one.name) for one in ABIS] == list(ABIS)
    with pytest.raises(UserError, match="unknown ABI 'm16'") as caught:
        abi("m16")
    assert caught.value.hint == "one of m64, m32, mx32"
    assert caught.value.exit_code == 2
