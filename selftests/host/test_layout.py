# SPDX-License-Identifier: GPL-2.0-only
"""harness.layout: sizes, offsets and constants, as each ABI's compiler has them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import hosttarget
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import layout as layouts
from harness.abi import ABI, ABIS, abi
from harness.layout import Compiler, Field, Layout
from vm.errors import BuildError, InfraError, UserError

M64, M32, MX32 = ABIS
EACH = pytest.mark.parametrize("one", ABIS, ids=lambda one: one.name)


def compiled(declaration: str, one: ABI, struct: str = "s") -> Layout:
    return layouts.layout(
        hosttarget.COMPILER,
        one,
        struct=struct,
        fields=layouts.field_names(declaration, struct),
        declaration=declaration,
    )


def places(made: Layout) -> dict[str, tuple[int, int]]:
    return {one.name: (one.offset, one.size) for one in made.fields}


# What differs between ABIs: the reason for all of this.

TYPES = "struct s { __u32 a; __u64 b; long c; void *d; };"


@pytest.mark.parametrize(
    ("one", "size", "align", "fields"),
    [
        (M64, 32, 8, {"a": (0, 4), "b": (8, 8), "c": (16, 8), "d": (24, 8)}),
        (M32, 20, 4, {"a": (0, 4), "b": (4, 8), "c": (12, 4), "d": (16, 4)}),
        (MX32, 24, 8, {"a": (0, 4), "b": (8, 8), "c": (16, 4), "d": (20, 4)}),
    ],
    ids=["m64", "m32", "mx32"],
)
def test_one_declaration_and_three_layouts(
    one: ABI, size: int, align: int, fields: dict[str, tuple[int, int]]
) -> None:
    made = compiled(TYPES, one)
    assert (made.size, made.align) == (size, align)
    assert places(made) == fields


def test_a_plain_u64_behind_a_u32_moves_as_m32_alone() -> None:
    """Mutant 30: the interface works as m64 and mx32, and is broken as m32."""
    plain = "struct s { __u32 size; __u32 flags; __u32 more; __u64 value; };"
    aligned = plain.replace("__u64", "__aligned_u64")
    assert [compiled(plain, one).field("value").offset for one in ABIS] == [16, 12, 16]
    assert [compiled(aligned, one).field("value").offset for one in ABIS] == [16, 16, 16]
    assert [compiled(plain, one).size for one in ABIS] == [24, 20, 24]


def test_padding_is_named() -> None:
    made = compiled("struct s { __u8 a; __u32 b; __u16 c; __aligned_u64 d; __u8 e; };", M64)
    assert made.padding() == [(1, 4), (10, 16), (25, 32)]
    assert compiled("struct s { __u32 size; __u32 a; __u64 b; };", M32).padding() == []
    # What one ABI has and another has not.
    odd = "struct s { __u32 size; __u64 b; };"
    assert [compiled(odd, one).padding() for one in ABIS] == [[(4, 8)], [], [(4, 8)]]


def test_arrays_and_structs_within() -> None:
    made = compiled(
        "struct in { __u32 x, y; }; struct s { __u16 a[3]; struct in b; __u8 c[0x10]; };", M64
    )
    assert places(made) == {"a": (0, 6), "b": (8, 8), "c": (16, 16)}
    assert made.padding() == [(6, 8)]


@EACH
def test_members_of_unions_without_a_name(one: ABI) -> None:
    """As in struct perf_event_attr: C names them as the struct's own."""
    made = compiled(
        "struct s { __u32 a; union { __u32 b; struct { __u16 c, d; }; }; __u64 e; };", one
    )
    assert places(made) == {
        "a": (0, 4),
        "b": (4, 4),
        "c": (4, 2),
        "d": (6, 2),
        "e": (8, 8),
    }
    assert made.padding() == []


def test_a_real_header() -> None:
    """struct timespec of this machine's headers, which every ABI has in another way."""
    for one, size in ((M64, 16), (M32, 8), (MX32, 16)):
        made = layouts.layout(
            hosttarget.COMPILER,
            one,
            struct="__kernel_old_timespec",
            fields=("tv_sec", "tv_nsec"),
            includes=("linux/time_types.h",),
        )
        assert made.size == size, one.name


# Names.


def test_names_come_from_the_declaration_in_order() -> None:
    text = "struct other { int z; }; struct s { __u32 size, param_1; __aligned_u64 b; int *p; };"
    assert layouts.field_names(text, "s") == ("size", "param_1", "b", "p")
    assert layouts.field_names(text, "other") == ("z",)


@pytest.mark.parametrize(
    "declaration",
    [
        "struct s { int a }",
        "struct s { unknown_t a; };",
        "struct s { int a[N]; };",
        "not C at all",
        "#include <linux/types.h>\nstruct s { int a; };",
        "struct s { int a; int a; };",
        "struct s { int a; }; struct s { int b; };",
        "struct s { int a : 3; };",
    ],
)
def test_a_declaration_that_does_not_parse_is_the_user_s_mistake(declaration: str) -> None:
    with pytest.raises(UserError, match="struct s"):
        layouts.field_names(declaration, "s")


@pytest.mark.parametrize(
    "declaration", ["", "struct other { int a; };", "struct s;", "struct s {};"]
)
def test_a_struct_that_is_not_there(declaration: str) -> None:
    with pytest.raises(UserError, match="struct s"):
        layouts.field_names(declaration, "s")


# Bytes.

FIELDS = (
    Field(name="size", offset=0, size=4),
    Field(name="small", offset=4, size=1),
    Field(name="big", offset=8, size=8),
)
MADE = Layout(struct="s", size=16, align=8, fields=FIELDS)


def test_new_sets_fields_and_leaves_zeros() -> None:
    data = MADE.new(size=0x01020304, small=0xFF, big=1 << 63)
    assert data == bytearray(b"\4\3\2\1\xff\0\0\0\0\0\0\0\0\0\0\x80")
    assert MADE.new() == bytearray(16)
    assert MADE.new(length=20, small=1) == bytearray(b"\0\0\0\0\1".ljust(20, b"\0"))
    # Shorter than the struct: what lies behind is cut, in the middle of a field, too.
    assert MADE.new(length=10, big=0x1122334455667788) == bytearray(b"\0" * 8 + b"\x88\x77")
    assert MADE.new(length=0, size=1) == bytearray()


def test_put_and_get() -> None:
    data = bytearray(b"\xaa" * 16)
    MADE.put(data, "small", 7)
    assert data == bytearray(b"\xaa" * 4 + b"\7" + b"\xaa" * 11)
    assert MADE.get(data, "small") == 7
    MADE.put(data, "small", -1)
    assert MADE.get(data, "small") == 0xFF
    MADE.put(data, "small", -128)
    assert MADE.get(data, "small") == 0x80


@given(st.integers(-(1 << 63), (1 << 64) - 1))
def test_what_was_put_is_got_modulo_the_field(value: int) -> None:
    data = MADE.new(size=1, small=2)
    MADE.put(data, "big", value)
    assert MADE.get(data, "big") == value % (1 << 64)
    assert (MADE.get(data, "size"), MADE.get(data, "small")) == (1, 2)


@pytest.mark.parametrize("value", [256, -129, 1 << 64])
def test_a_value_that_does_not_fit_is_refused(value: int) -> None:
    with pytest.raises(UserError, match=r"s\.small: .* needs more than 1 bytes"):
        MADE.new(small=value)


def test_an_unknown_field_is_named_with_the_known_ones() -> None:
    for call in (
        lambda: MADE.field("param_9"),
        lambda: MADE.new(param_9=1),
        lambda: MADE.get(bytes(16), "param_9"),
    ):
        with pytest.raises(UserError, match="struct s has no field 'param_9'") as caught:
            call()
        assert caught.value.hint == "it has size, small, big"


# Constants, and a compiler that says no.


@EACH
def test_constants_of_every_kind(one: ABI) -> None:
    found = layouts.constants(
        hosttarget.COMPILER,
        one,
        includes=("stdint.h", "errno.h"),
        declaration="enum { TWO = 2 };\n#define BIG 0xfedcba9876543210ull\n",
        expressions={
            "zero": "0",
            "one": "1",
            "negative": "-100",
            "macro": "EINVAL",
            "enum": "TWO",
            "big": "BIG",
            "all zero": "0ull",
            "flag": "1u << 31",
            "pointer": "sizeof(void *)",
        },
    )
    assert found == {
        "zero": 0,
        "one": 1,
        "negative": (1 << 64) - 100,
        "macro": 22,
        "enum": 2,
        "big": 0xFEDCBA9876543210,
        "all zero": 0,
        "flag": 1 << 31,
        "pointer": one.pointer,
    }


def test_many_constants_keep_their_names() -> None:
    """More than ten, so that a wrong order of names would show."""
    expressions = {f"name {index}": str(index * index) for index in range(40)}
    found = layouts.constants(hosttarget.COMPILER, M64, includes=(), expressions=expressions)
    assert found == {f"name {index}": index * index for index in range(40)}


@EACH
def test_a_number_is_what_its_own_translation_unit_says(one: ABI) -> None:
    for name in ("read", "__NR_close", "clone3"):
        macro = name if name.startswith("__NR_") else f"__NR_{name}"
        alone = layouts.constants(
            hosttarget.COMPILER, one, includes=("asm/unistd.h",), expressions={"value": macro}
        )
        assert layouts.number(hosttarget.COMPILER, one, name) == alone["value"]


def test_a_call_that_the_headers_lack_is_named() -> None:
    with pytest.raises(BuildError, match="__NR_no_such_call"):
        layouts.number(hosttarget.COMPILER, ABIS[0], "no_such_call")


def test_system_call_numbers_differ_and_x32_s_have_bit_30() -> None:
    found = {one.name: hosttarget.numbers(one)["getpid"] for one in ABIS}
    assert found == {"m64": 39, "m32": 20, "mx32": 39 | 1 << 30}


@pytest.mark.parametrize(
    ("includes", "declaration", "expression", "words"),
    [
        (("linux/no-such-header.h",), "", "1", "no-such-header"),
        ((), "", "NO_SUCH_MACRO", "NO_SUCH_MACRO"),
        ((), "struct s { int a; }", "1", "expected"),
        ((), "static int unused;", "1", "unused"),
        ((), "extern int var;", "var", "not constant"),
        ((), "struct s;", "sizeof(struct s)", "incomplete"),
    ],
)
def test_the_compiler_s_words_are_in_the_error(
    includes: tuple[str, ...], declaration: str, expression: str, words: str
) -> None:
    with pytest.raises(BuildError, match=words) as caught:
        layouts.constants(
            hosttarget.COMPILER,
            M32,
            includes=includes,
            declaration=declaration,
            expressions={"value": expression},
        )
    assert str(caught.value).startswith("m32: ")


def test_a_field_that_the_header_lacks_is_named() -> None:
    with pytest.raises(BuildError, match="param_9"):
        layouts.layout(
            hosttarget.COMPILER,
            M64,
            struct="s",
            fields=("size", "param_9"),
            declaration="struct s { int size; };",
        )


def test_a_compiler_that_is_not_there() -> None:
    with pytest.raises(InfraError, match="no-such-gcc: not found"):
        layouts.constants(
            Compiler(headers=None, cc="no-such-gcc"), M64, includes=(), expressions={"a": "1"}
        )


def test_headers_come_before_the_machine_s_own(tmp_path: Path) -> None:
    (tmp_path / "asm").mkdir()
    (tmp_path / "asm" / "unistd.h").write_text("#define __NR_getpid 4711\n")
    found = layouts.constants(
        Compiler(headers=tmp_path),
        M64,
        includes=("asm/unistd.h",),
        expressions={"n": "__NR_getpid"},
    )
    assert found == {"n": 4711}


def test_nothing_is_left_in_the_temporary_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a success, after an error of the compiler's, and without a compiler."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for cc, expression in (("gcc", "4712"), ("gcc", "NO_SUCH_MACRO"), ("no-such-gcc", "4713")):
        try:
            layouts.constants(
                Compiler(headers=None, cc=cc), M64, includes=(), expressions={"a": expression}
            )
        except (BuildError, InfraError):
            assert expression != "4712"
        assert list(tmp_path.iterdir()) == []


def test_abis_are_the_ones_that_are_meant() -> None:
    assert (abi("m64"), abi("m32"), abi("mx32")) == (M64, M32, MX32)
