# SPDX-License-Identifier: GPL-2.0-only
"""The console: golden logs, the splitting of a stream, marks, and the live thread.

The logs from oom, oops-null-pointer, panic-*, soft-lockup, user-faults and
warning are a real 6.12.117's; the faults were provoked from a debugger.  The
others are written after the kernel's sources.
"""

from __future__ import annotations

import dataclasses
import os
import re
import select
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vm.console import MARK, PATTERNS, Console, Log, read_log
from vm.deadline import Deadline
from vm.errors import Verdict

DATA = Path(__file__).parent / "data" / "console"


@dataclasses.dataclass(frozen=True)
class Expected:
    """An event that a log must show."""

    kind: str
    verdict: Verdict
    fatal: bool
    text: str  #: the recognised message begins so
    first: str  #: the report's first line ends so
    last: str  #: the report's last line ends so


CUT = "------------[ cut here ]------------"
END = "---[ end trace 0000000000000000 ]---"
RULE = "=" * 60

GOLDEN: dict[str, list[Expected]] = {
    "quiet": [],
    "user-faults": [],
    "oops-null-pointer": [
        Expected(
            "oops",
            Verdict.OOPS,
            True,
            "BUG: kernel NULL pointer dereference, address: 0000000000000000",
            "BUG: kernel NULL pointer dereference, address: 0000000000000000",
            END,
        )
    ],
    "oops-6.1": [
        Expected(
            "oops",
            Verdict.OOPS,
            True,
            "general protection fault, probably for non-canonical",
            "[#1] PREEMPT SMP",
            END,
        ),
        Expected(
            "panic",
            Verdict.PANIC,
            True,
            "Kernel panic - not syncing: Fatal exception",
            "Kernel panic - not syncing: Fatal exception",
            "---[ end Kernel panic - not syncing: Fatal exception ]---",
        ),
    ],
    "bug-at": [Expected("bug", Verdict.OOPS, True, "kernel BUG at fs/xyzzy.c:77!", CUT, END)],
    "atomic-sleep": [
        Expected(
            "bug",
            Verdict.OOPS,
            False,
            "BUG: sleeping function called from invalid context",
            "uaccess.h:186",
            "</TASK>",
        )
    ],
    "panic-init-died": [
        Expected(
            "panic",
            Verdict.PANIC,
            True,
            "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000300",
            "exitcode=0x00000300",
            "Kernel Offset: disabled",
        )
    ],
    "panic-no-root": [
        Expected(
            "panic",
            Verdict.PANIC,
            True,
            "Kernel panic - not syncing: VFS: Unable to mount root fs",
            "unknown-block(0,0)",
            "Kernel Offset: disabled",
        )
    ],
    "panic-sysrq": [
        Expected(
            "panic",
            Verdict.PANIC,
            True,
            "Kernel panic - not syncing: sysrq triggered crash",
            "sysrq triggered crash",
            "Kernel Offset: disabled",
        )
    ],
    "warning": [
        Expected(
            "warning",
            Verdict.OOPS,
            False,
            "WARNING: CPU: 0 PID: 26 at lib/refcount.c:25",
            CUT,
            END,
        )
    ],
    "kasan": [
        Expected(
            "kasan",
            Verdict.OOPS,
            False,
            "BUG: KASAN: slab-out-of-bounds in __do_sys_xyzzy",
            RULE,
            RULE,
        )
    ],
    "ubsan": [
        Expected(
            "ubsan",
            Verdict.OOPS,
            False,
            "UBSAN: shift-out-of-bounds in fs/xyzzy.c:118:22",
            CUT,
            "---[ end trace ]---",
        ),
        Expected(
            "ubsan",
            Verdict.OOPS,
            False,
            "UBSAN: array-index-out-of-bounds in fs/xyzzy.c:61:9",
            RULE,
            RULE,
        ),
    ],
    "lockdep": [
        Expected(
            "lockdep",
            Verdict.OOPS,
            False,
            "WARNING: possible recursive locking detected",
            "=" * 44,
            "</TASK>",
        )
    ],
    "kmemleak": [
        Expected(
            "kmemleak",
            Verdict.OOPS,
            False,
            "kmemleak: 3 new suspicious memory leaks",
            "(see /sys/kernel/debug/kmemleak)",
            "(see /sys/kernel/debug/kmemleak)",
        )
    ],
    "hung-task": [
        Expected(
            "hung-task",
            Verdict.OOPS,
            False,
            "INFO: task caller-m64:31 blocked for more than 120 seconds.",
            "120 seconds.",
            "</TASK>",
        )
    ],
    "rcu-stall": [
        Expected(
            "rcu-stall",
            Verdict.OOPS,
            True,
            "rcu: INFO: rcu_sched self-detected stall on CPU",
            "stall on CPU",
            "</TASK>",
        )
    ],
    "soft-lockup": [
        Expected(
            "soft-lockup",
            Verdict.OOPS,
            True,
            f"watchdog: BUG: soft lockup - CPU#0 stuck for {seconds}s! [init:26]",
            f"stuck for {seconds}s! [init:26]",
            "</TASK>",
        )
        for seconds in (26, 52)
    ],
    "oom": [
        Expected(
            "oom",
            Verdict.OOPS,
            False,
            "Out of memory: Killed process 26 (init)",
            "oom_score_adj:0",
            "oom_score_adj:0",
        )
    ],
    "marks": [
        Expected("warning", Verdict.OOPS, False, "WARNING: CPU: 0 PID: 31", CUT, END),
        Expected(
            "warning",
            Verdict.OOPS,
            False,
            "WARNING: CPU: 0 PID: 31",
            CUT,
            "__do_sys_xyzzy+0x71/0x140",
        ),
    ],
}


def test_every_golden_log_has_its_expectation() -> None:
    assert {path.stem for path in DATA.glob("*.log")} == set(GOLDEN)


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_golden(name: str) -> None:
    events = read_log(DATA / f"{name}.log").events
    assert [event.kind for event in events] == [expected.kind for expected in GOLDEN[name]]
    for event, expected in zip(events, GOLDEN[name], strict=True):
        assert event.text.startswith(expected.text)
        assert (event.kind, event.verdict, event.fatal) == (
            expected.kind,
            expected.verdict,
            expected.fatal,
        )
        assert event.report[0].endswith(expected.first)
        assert event.report[-1].endswith(expected.last)
        assert event.whole


@pytest.mark.parametrize("name", sorted(GOLDEN))
@pytest.mark.parametrize("step", [1, 7, 4096])
def test_however_the_bytes_are_cut(name: str, step: int) -> None:
    data = (DATA / f"{name}.log").read_bytes()
    log = Log()
    for at in range(0, len(data), step):
        log.feed(data[at : at + step])
    log.end()
    whole = read_log(DATA / f"{name}.log")
    assert log.lines == whole.lines
    assert log.events == whole.events


def test_every_kind_has_a_golden_log_or_a_line_here() -> None:
    """A pattern that nothing exercises may be wrong for years."""
    shown = {expected.kind for log in GOLDEN.values() for expected in log}
    shown |= {kind for kind, _ in ONE_LINERS}
    assert {pattern.kind for pattern in PATTERNS} == shown


ONE_LINERS = [
    ("panic", "traps: PANIC: double fault, error_code: 0x0"),
    ("kcsan", "BUG: KCSAN: data-race in xyzzy_read / xyzzy_timer"),
    ("kasan", "BUG: KFENCE: use-after-free read in xyzzy_read+0x12/0x40"),
    ("hard-lockup", "watchdog: CPU0: Watchdog detected hard LOCKUP on cpu 0"),
    ("hard-lockup", "NMI watchdog: Watchdog detected hard LOCKUP on cpu 0"),
    (
        "workqueue-lockup",
        "BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 60s!",
    ),
    ("hung-task", "INFO: task kworker/0:1:12 blocked in I/O wait for more than 122 seconds."),
    ("rcu-stall", "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:"),
    ("oops", "BUG: unable to handle page fault for address: ffffc90000200000"),
    ("oops", "BUG: stack guard page was hit at 00000000a1b2c3d4"),
    ("oops", "kernel tried to execute NX-protected page - exploit attempt? (uid: 0)"),
    (
        "oops",
        "Oops: general protection fault, probably for non-canonical address 0xaaaa: 0000 [#1] SMP",
    ),
    ("oops", "Oops: double fault: 0000 [#1] SMP"),
    ("oops", "invalid opcode: 0000 [#1] PREEMPT SMP"),
    ("oops", "divide error: 0000 [#3] SMP"),
    ("oops", "double fault: 0000 [#1] SMP"),
    ("warning", "WARNING: fs/xyzzy.c:52 at __do_sys_xyzzy+0x60/0x140, CPU#0: caller-m64/31"),
    ("lockdep", "WARNING: possible circular locking dependency detected"),
    ("lockdep", "WARNING: inconsistent lock state"),
    ("lockdep", "WARNING: bad unlock balance detected!"),
    ("lockdep", "WARNING: suspicious RCU usage"),
    ("lockdep", "INFO: trying to register non-static key."),
    (
        "panic",
        "Kernel panic - not syncing: stack-protector: Kernel stack is corrupted in: xyzzy_read",
    ),
    ("usercopy", "usercopy: Kernel memory exposure attempt detected from SLUB object 'kmalloc-32'"),
    ("corruption", "list_del corruption. prev->next should be ffff888002a41510, but was 0"),
    ("slab", "BUG kmalloc-32 (Not tainted): Right Redzone overwritten"),
    ("bug", "BUG: Bad page state in process caller-m64  pfn:02a41"),
    ("bug", "BUG: scheduling while atomic: caller-m64/31/0x00000002"),
]


@pytest.mark.parametrize(("kind", "message"), ONE_LINERS)
def test_message(kind: str, message: str) -> None:
    log = Log()
    log.feed(f"[   12.345678] {message}\r\n".encode())
    assert [event.kind for event in log.events] == [kind]


@pytest.mark.parametrize(
    "line",
    [
        "[    1.000000][    T1] Oops: 0000 [#1] SMP",  # CONFIG_PRINTK_CALLER
        "ok 3 - no newline here[    1.000000] Oops: 0000 [#1] SMP",
        "\x1b[1;31m[    1.000000] Oops: 0000 [#1] SMP\x1b[0m",
        "[12345678.000000] Oops: 0000 [#1] SMP",
    ],
)
def test_the_kernels_line_is_found(line: str) -> None:
    log = Log()
    log.feed(line.encode() + b"\r\n")
    assert [event.kind for event in log.events] == ["oops"]


@pytest.mark.parametrize(
    "line",
    [
        "Oops: 0000 [#1] SMP",
        "[    1.000000] a quotation: Oops: 0000 [#1] SMP",
        "[    1.000000] Command line: oops=panic panic=-1",
        "[    1.000000] init[3]: segfault at 0 ip 0 sp 0 error 4",
        "[    1.000000] traps: init[3] general protection fault ip:8049a31 sp:ff9c2d50 error:0",
        "[1.0] Oops: 0000 [#1] SMP",
    ],
)
def test_what_is_no_event(line: str) -> None:
    log = Log()
    log.feed(line.encode() + b"\n")
    assert not log.events


def test_a_report_without_an_end_does_not_swallow_the_log() -> None:
    log = Log()
    log.feed(b"[    1.000000] Oops: 0000 [#1] SMP\n")
    for number in range(1000):
        log.feed(f"[    2.000000] line {number}\n".encode())
    (event,) = log.events
    assert event.whole
    assert len(event.report) == 200


def test_numbers_count_every_line() -> None:
    log = Log()
    log.feed(b"SeaBIOS\n\n[    1.000000] Oops: 0000 [#1] SMP\nrest")
    assert [(line.number, line.text) for line in log.lines][:2] == [(1, "SeaBIOS"), (2, "")]
    assert (log.events[0].line, log.events[0].first) == (3, 3)
    assert log.partial == "rest"
    log.end()
    assert log.lines[-1].text == "rest"


def test_bytes_that_are_no_text() -> None:
    log = Log()
    log.feed(bytes(range(256)) * 3 + b"\n[    1.000000] Oops: 0000 [#1] SMP\n")
    assert [event.kind for event in log.events] == ["oops"]


class Pipe:
    """A console's source that a test writes to."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()

    def fileno(self) -> int:
        return self._read

    def read(self) -> bytes:
        return os.read(self._read, 65536)

    def send(self, data: bytes) -> None:
        os.write(self._write, data)

    def hang_up(self) -> None:
        if self._write >= 0:
            os.close(self._write)
            self._write = -1

    def close(self) -> None:
        self.hang_up()
        os.close(self._read)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


@pytest.fixture
def console(pipe: Pipe, tmp_path: Path) -> Iterator[Console]:
    console = Console(pipe, tmp_path / "console.log")
    yield console
    console.close()


def soon(what: str) -> Deadline:
    return Deadline.after(10, what)


def test_the_record_is_every_byte(pipe: Pipe, console: Console) -> None:
    data = (DATA / "marks.log").read_bytes() + b"\x00\xff no end of line"
    pipe.send(data)
    pipe.hang_up()
    assert console.join(10)
    assert console.path.read_bytes() == data
    assert console.tail(1) == ("\x00\ufffd no end of line",)


def test_marks_divide_the_events(pipe: Pipe, console: Console) -> None:
    pipe.send((DATA / "marks.log").read_bytes())
    found: dict[str, list[str]] = {}
    at = 0
    for test in ("tail[m64]", "flags[m64]", "race[m64]"):
        begin = console.mark(f"begin {test}", soon("mark"), after=at)
        end = console.mark(f"end {test}", soon("mark"), after=at)
        assert begin is not None
        assert end is not None
        at = end.number
        found[test] = [event.text for event in console.events_between(begin, end)]
    where = "WARNING: CPU: 0 PID: 31 at fs/xyzzy.c:"
    assert found == {
        "tail[m64]": [f"{where}52 __do_sys_xyzzy+0x60/0x140"],
        "flags[m64]": [],
        "race[m64]": [f"{where}59 __do_sys_xyzzy+0x71/0x140"],
    }
    last = console.mark("end race[m64]", soon("mark"))
    assert last is not None
    assert [line.message for line in console.since(last)] == ["random: a line behind it"]


def test_a_mark_that_is_quoted_is_none(pipe: Pipe, console: Console) -> None:
    pipe.send(f"{MARK}begin\n[    1.000000] said {MARK}begin\n".encode())
    assert console.mark("begin", Deadline.after(0.1, "mark")) is None


def test_waiting_sees_what_comes_later(pipe: Pipe, console: Console) -> None:
    timer = threading.Timer(0.2, pipe.send, [b"[    1.000000] here it is\n"])
    timer.start()
    line = console.wait_for(r"here it is$", soon("line"))
    timer.join()
    assert line is not None
    assert (line.number, line.seconds) == (1, 1.0)
    assert console.wait_for(r"here it is$", Deadline.after(0.05, "line"), after=1) is None


def test_waiting_ends_with_the_stream(pipe: Pipe, console: Console) -> None:
    timer = threading.Timer(0.1, pipe.hang_up)
    timer.start()
    started = time.monotonic()
    assert console.wait_for("never", soon("line")) is None
    timer.join()  # the pipe is this thread's again
    assert time.monotonic() - started < 5
    assert console.ended


def test_trouble_wakes_a_poll(pipe: Pipe, console: Console) -> None:
    poll = select.poll()
    poll.register(console, select.POLLIN)
    pipe.send((DATA / "warning.log").read_bytes())
    assert console.wait_for(re.escape(END), soon("end")) is not None
    assert not poll.poll(50), "a warning does not end a guest"
    pipe.send(b"[    9.000000] Kernel panic - not syncing: so there\n")
    assert poll.poll(5000)
    event = console.fatal()
    assert event is not None
    assert event.kind == "panic"


def test_the_end_wakes_a_poll(pipe: Pipe, console: Console) -> None:
    poll = select.poll()
    poll.register(console, select.POLLIN)
    pipe.hang_up()
    assert poll.poll(5000)
    assert console.fatal() is None


def test_a_panic_is_named_before_the_oops_that_led_to_it(pipe: Pipe, console: Console) -> None:
    pipe.send((DATA / "oops-6.1.log").read_bytes())
    pipe.hang_up()
    assert console.join(10)
    event = console.fatal()
    assert event is not None
    assert event.verdict is Verdict.PANIC


def test_settle_waits_for_the_rest_of_a_report(pipe: Pipe, console: Console) -> None:
    text = (DATA / "oops-null-pointer.log").read_bytes()
    middle = text.index(b"Call Trace")
    pipe.send(text[:middle])
    timer = threading.Timer(0.2, pipe.send, [text[middle:]])
    timer.start()
    assert console.wait_for("Oops", soon("oops")) is not None
    console.settle(10)
    timer.join()
    assert console.events[0].whole
    assert console.events[0].report[-1].endswith(END)


def descriptors() -> list[str]:
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


def test_close_gives_everything_back(pipe: Pipe, tmp_path: Path) -> None:
    before = descriptors()
    threads = threading.active_count()
    for number in range(20):
        Console(pipe, tmp_path / f"{number}.log").close()
    assert descriptors() == before
    assert threading.active_count() == threads
