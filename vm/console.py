# SPDX-License-Identifier: GPL-2.0-only
"""The guest's console: kept whole, watched live, understood by a table.

The console is one stream of bytes: the kernel's log, and now and then a word of
a program.  It is written to a file as it comes, byte for byte, and taken apart
beside: lines, and in them *events*, the kernel's own reports of a panic, an
oops, a warning, a lockup.

What counts is the kernel's word only.  Every kernel line begins with a
timestamp (`printk.time=1`, kernel/printk/printk.c:print_time), and every
pattern is anchored right behind it, so neither a command line that says
"oops=panic" nor a program that prints "Kernel panic" is an event.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import os
import re
import select
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from vm.deadline import Deadline
from vm.errors import Verdict


class Ends(enum.Enum):
    """How the report that an event's line begins comes to its end.

    A report also ends where another begins ("cut here"), at a mark, and after
    REPORT_LINES lines.
    """

    LINE = "at once: it is one line"
    TRACE = "---[ end trace, or a second line of equal signs where a first was"
    PANIC = "---[ end Kernel panic"
    STACK = "</TASK>, the last line of a stack trace"
    RULE = "a second line of equal signs"


@dataclasses.dataclass(frozen=True)
class Pattern:
    """One way in which the kernel says that something is wrong."""

    regex: str  #: matched right behind the timestamp
    kind: str  #: a short name, stable, for reports
    verdict: Verdict
    fatal: bool  #: nothing that the guest says afterwards can be trusted
    ends: Ends
    reason: str  #: what it means, and where the kernel says it


#: In this order: the first match counts.
PATTERNS = (
    Pattern(
        r"Kernel panic - not syncing: ",
        "panic",
        Verdict.PANIC,
        True,
        Ends.PANIC,
        "the kernel stopped for good; kernel/panic.c:panic",
    ),
    Pattern(
        r"(?:traps: )?PANIC: ",
        "panic",
        Verdict.PANIC,
        True,
        Ends.PANIC,
        "an exception before there is a handler, or a double fault; arch/x86/kernel/traps.c",
    ),
    Pattern(
        r"BUG: KASAN: |BUG: KFENCE: |BUG: KMSAN: ",
        "kasan",
        Verdict.OOPS,
        False,
        Ends.RULE,
        "memory used that is not the user's to use; mm/kasan/report.c:print_error_description",
    ),
    Pattern(
        r"BUG: KCSAN: ",
        "kcsan",
        Verdict.OOPS,
        False,
        Ends.RULE,
        "a data race; kernel/kcsan/report.c",
    ),
    Pattern(
        r"watchdog: BUG: soft lockup - ",
        "soft-lockup",
        Verdict.OOPS,
        True,
        Ends.STACK,
        "a CPU has not scheduled for 20 s; kernel/watchdog.c:watchdog_timer_fn",
    ),
    Pattern(
        r"(?:NMI )?watchdog: (?:CPU\d+: )?Watchdog detected hard LOCKUP",
        "hard-lockup",
        Verdict.OOPS,
        True,
        Ends.STACK,
        "a CPU takes no interrupts; kernel/watchdog.c:watchdog_hardlockup_check",
    ),
    Pattern(
        r"BUG: workqueue lockup - ",
        "workqueue-lockup",
        Verdict.OOPS,
        True,
        Ends.LINE,
        "a worker pool stands still; kernel/workqueue.c:wq_watchdog_timer_fn",
    ),
    Pattern(
        r"INFO: task .+ blocked (?:in .+ )?for more than \d+ seconds",
        "hung-task",
        Verdict.OOPS,
        False,
        Ends.STACK,
        "a task sleeps uninterruptibly for long; kernel/hung_task.c:check_hung_task",
    ),
    Pattern(
        r"rcu: INFO: .*(?:self-detected stall|detected (?:expedited )?stalls?)",
        "rcu-stall",
        Verdict.OOPS,
        True,
        Ends.STACK,
        "a CPU or task holds up a grace period; kernel/rcu/tree_stall.h",
    ),
    Pattern(
        r"BUG: (?:unable to handle |kernel NULL pointer dereference|stack guard page was hit)"
        r"|kernel tried to execute ",
        "oops",
        Verdict.OOPS,
        True,
        Ends.TRACE,
        "the kernel touched memory that is not there; arch/x86/mm/fault.c:show_fault_oops",
    ),
    Pattern(
        r"kernel BUG at ",
        "bug",
        Verdict.OOPS,
        True,
        Ends.TRACE,
        "a BUG() was reached; lib/bug.c:report_bug",
    ),
    Pattern(
        r"Oops: ",
        "oops",
        Verdict.OOPS,
        True,
        Ends.TRACE,
        "any exception in the kernel, since 6.10 all under this word; arch/x86/kernel/dumpstack.c",
    ),
    Pattern(
        r"(?:general protection fault|invalid opcode|double fault|divide error|stack segment"
        r"|int3|alignment check|control protection|bounds|overflow|invalid TSS"
        r"|segment not present).*: [0-9a-f]{4} \[#\d+\]",
        "oops",
        Verdict.OOPS,
        True,
        Ends.TRACE,
        "an exception in the kernel, as older kernels say it; arch/x86/kernel/traps.c:die",
    ),
    Pattern(
        r"general protection fault, ",
        "oops",
        Verdict.OOPS,
        True,
        Ends.TRACE,
        "the same, with the address explained; arch/x86/kernel/traps.c:exc_general_protection",
    ),
    Pattern(
        r"WARNING: (?:possible |inconsistent lock state|bad unlock balance|held lock freed"
        r"|lock held when returning|.*still has locks held|suspicious RCU usage"
        r"|Nested lock was not taken)|INFO: trying to register non-static key",
        "lockdep",
        Verdict.OOPS,
        False,
        Ends.STACK,
        "an order of locks that can deadlock, or a lock misused; kernel/locking/lockdep.c",
    ),
    Pattern(
        r"WARNING: (?:CPU: \d+ |\S+:\d+ at )",
        "warning",
        Verdict.OOPS,
        False,
        Ends.TRACE,
        "a WARN_ON() was reached; kernel/panic.c:__warn",
    ),
    Pattern(
        r"UBSAN: ",
        "ubsan",
        Verdict.OOPS,
        False,
        Ends.TRACE,
        "undefined behaviour was executed; lib/ubsan.c:ubsan_prologue",
    ),
    Pattern(
        r"kmemleak: \d+ new suspicious memory leaks",
        "kmemleak",
        Verdict.OOPS,
        False,
        Ends.LINE,
        "memory that nothing points to; mm/kmemleak.c:kmemleak_scan",
    ),
    Pattern(
        r"usercopy: ",
        "usercopy",
        Verdict.OOPS,
        True,
        Ends.TRACE,
        "a copy across an object's bounds, a BUG() follows; mm/usercopy.c:usercopy_abort",
    ),
    Pattern(
        r"(?:list_add|list_del) corruption",
        "corruption",
        Verdict.OOPS,
        False,
        Ends.LINE,
        "a kernel list is broken, a BUG() or WARN() follows; lib/list_debug.c",
    ),
    Pattern(
        r"BUG \S+ \(.+\): ",
        "slab",
        Verdict.OOPS,
        False,
        Ends.STACK,
        "an object's red zone or poison was overwritten; mm/slub.c:slab_bug",
    ),
    Pattern(
        r"BUG: ",
        "bug",
        Verdict.OOPS,
        False,
        Ends.STACK,
        "any other: sleeping while atomic, bad page state, bad rss-counter; the kernel goes on",
    ),
    Pattern(
        r"Out of memory: Killed process ",
        "oom",
        Verdict.OOPS,
        False,
        Ends.LINE,
        "the guest ran out of memory and shot a process; mm/oom_kill.c:__oom_kill_process",
    ),
)

_COMPILED = tuple((re.compile(pattern.regex), pattern) for pattern in PATTERNS)

#: A kernel line: the timestamp in seconds, the caller with PRINTK_CALLER, the
#: message.  Not at a line's start only: a program's last line may lack a newline.
_KERNEL_LINE = re.compile(r"\[ *(\d+\.\d{6})\](?:\[ *[TC]\d+\])? (.*)")

#: What a terminal would act upon and not show: CSI and OSC sequences, charsets.
_ESCAPE = re.compile(
    r"\x1b(?:"
    r"\[[0-?]*[ -/]*[@-~]"
    r"|\][^\x07\x1b]*(?:\x07|\x1b\\)?"
    r"|[()][0-9A-B]"
    r"|[ -~])"
)

#: Begins every line that a guest's program writes to /dev/kmsg as a landmark.
MARK = "extsys-mark: "

#: How long a line may gather before it is read, in milliseconds.  QEMU's serial port hands
#: on a byte at a time, and to be woken for each costs more than all that is done with it.
PAUSE_MS = 2

#: A report has no more lines than this; the longest seen, an oops with modules
#: and two stacks, has about 90.
REPORT_LINES = 200

_CUT_HERE = "------------[ cut here ]------------"
_RULE = re.compile(r"={30,}$")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """One line of the console, without escapes and line ends."""

    number: int  #: counted from 1
    text: str
    message: str | None  #: behind the timestamp; None: not the kernel's line
    seconds: float | None  #: the kernel's timestamp, in seconds since it began


@dataclasses.dataclass(kw_only=True)
class Event:
    """Something the kernel reported.  The report may still be growing."""

    pattern: Pattern
    line: int  #: number of the line that was recognised
    text: str  #: the message of that line
    first: int  #: number of the report's first line, "cut here" included
    report: list[str]  #: the report's lines
    whole: bool = False  #: the report's end has been seen

    @property
    def kind(self) -> str:
        return self.pattern.kind

    @property
    def verdict(self) -> Verdict:
        return self.pattern.verdict

    @property
    def fatal(self) -> bool:
        return self.pattern.fatal


class Log:
    """Bytes in, lines and events out.  No threads, no files: feed() and look."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.events: list[Event] = []
        self._rest = b""
        self._open: Event | None = None
        self._rules = 0  # lines of equal signs in the open report
        self._cut: int | None = None  # number of a "cut here" that waits for its line
        self._rule: int | None = None  # number of a line of equal signs, likewise

    def feed(self, data: bytes) -> None:
        """Take the next bytes; a line counts when its end has come."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        for raw in whole:
            self._line(raw)

    def end(self) -> None:
        """The stream is over: what is left is the last line."""
        if self._rest:
            self._line(self._rest)
            self._rest = b""
        self._close()

    @property
    def partial(self) -> str:
        """What has come of a line that has not ended yet."""
        return _clean(self._rest)

    def _line(self, raw: bytes) -> None:
        text = _clean(raw)
        found = _KERNEL_LINE.search(text)
        line = Line(
            number=len(self.lines) + 1,
            text=text,
            message=found[2] if found else None,
            seconds=float(found[1]) if found else None,
        )
        self.lines.append(line)
        if line.message is None:
            return
        self._kernel_line(line, line.message)

    def _kernel_line(self, line: Line, message: str) -> None:
        if message == _CUT_HERE:
            self._close()
            self._cut = line.number
            return
        if message.startswith(MARK):
            self._close()
            self._cut = self._rule = None
            return
        pattern = _recognise(message)
        if self._open:
            if pattern and self._is_new(self._open.pattern, pattern):
                self._close()
            else:
                self._grow(self._open, line, message)
                return
        if pattern:
            self._begin(line, message, pattern)
        elif _RULE.match(message):
            self._rule = line.number
        elif self._rule and line.number > self._rule + 1:
            self._rule = None

    @staticmethod
    def _is_new(now: Pattern, then: Pattern) -> bool:
        """Whether a line inside the report of ``now`` is more than a part of it.

        An oops says "BUG: unable to handle", then "Oops:", and all is one
        event.  The panic that it leads to is another, and so is an oops behind
        a mere warning.
        """
        if then.kind == "panic" or now.kind == "panic":
            return then.kind != now.kind and then.kind == "panic"
        if now.kind == "kasan":
            return then.fatal and then.kind in ("oops", "bug")
        return then.fatal and not now.fatal

    def _begin(self, line: Line, message: str, pattern: Pattern) -> None:
        first = line.number
        if self._cut is not None and pattern.ends is not Ends.LINE:
            first = self._cut
        elif self._rule == line.number - 1:
            first = self._rule
        self._cut = None
        self._rules = 1 if first == self._rule else 0
        self._rule = None
        event = Event(
            pattern=pattern,
            line=line.number,
            text=message,
            first=first,
            report=[earlier.text for earlier in self.lines[first - 1 :]],
        )
        self.events.append(event)
        self._open = event
        if pattern.ends is Ends.LINE:
            self._close()

    def _grow(self, event: Event, line: Line, message: str) -> None:
        event.report.append(line.text)
        if _RULE.match(message):
            self._rules += 1
        ended = {
            Ends.LINE: True,
            Ends.TRACE: message.startswith("---[ end trace") or self._rules >= 2,
            Ends.PANIC: message.startswith("---[ end Kernel panic"),
            Ends.STACK: message.strip() == "</TASK>",
            Ends.RULE: self._rules >= 2,
        }[event.pattern.ends]
        if ended or len(event.report) >= REPORT_LINES:
            self._close()

    def _close(self) -> None:
        if self._open:
            self._open.whole = True
            self._open = None


def _clean(raw: bytes) -> str:
    return _ESCAPE.sub("", raw.decode(errors="replace")).replace("\r", "").rstrip()


def _recognise(message: str) -> Pattern | None:
    for regex, pattern in _COMPILED:
        if regex.match(message):
            return pattern
    return None


class Source(Protocol):
    """Where a console's bytes come from."""

    def fileno(self) -> int:
        """A descriptor that polls readable when read() would not block."""

    def read(self) -> bytes:
        """The next bytes; none at the end."""


class Console:
    """A live console: a thread reads ``source`` to its end.

    The thread is the only reader.  It writes every byte to ``path`` before it
    looks at it, so that the file is complete also when this process dies.
    """

    def __init__(self, source: Source, path: Path) -> None:
        self.path = path
        self._source = source
        self._log = Log()
        self._changed = threading.Condition()
        self._ended = False
        self._waiting = 0  # threads that wait for a line
        self._failure: BaseException | None = None
        self._stop_read, self._stop_write = os.pipe()
        self._trouble = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._file = path.open("wb", buffering=0)
        self._thread = threading.Thread(target=self._run, name=f"console {path}", daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        """Readable once a fatal event was seen or the stream has ended.

        For a poll beside a socket, so that a panic is noticed while an answer
        is waited for.  Never to be read from.
        """
        return self._trouble

    @property
    def ended(self) -> bool:
        """The stream is over: whoever wrote to it is gone."""
        with self._changed:
            return self._ended

    @property
    def events(self) -> tuple[Event, ...]:
        with self._changed:
            return tuple(self._log.events)

    @property
    def lines(self) -> tuple[Line, ...]:
        with self._changed:
            return tuple(self._log.lines)

    @property
    def position(self) -> int:
        """The number of lines so far."""
        with self._changed:
            return len(self._log.lines)

    def fatal(self) -> Event | None:
        """The event to name when the guest is given up.

        A panic before all else, since it ended the guest; otherwise the first
        fatal event, since the later ones may be its consequences.
        """
        fatal = [event for event in self.events if event.fatal]
        panics = [event for event in fatal if event.verdict is Verdict.PANIC]
        return next(iter(panics + fatal), None)

    def tail(self, count: int) -> tuple[str, ...]:
        """The last ``count`` lines that are not empty."""
        with self._changed:
            texts = [line.text for line in self._log.lines[-4 * count :]]
            texts.append(self._log.partial)
        return tuple(text for text in texts if text)[-count:]

    def wait_for(self, regex: str, deadline: Deadline, *, after: int = 0) -> Line | None:
        """The first line past line number ``after`` in which ``regex`` is found.

        None when the deadline passes or the stream ends before there is one.
        """
        compiled = re.compile(regex)
        return self._wait(lambda line: compiled.search(line.text) is not None, deadline, after)

    def mark(self, text: str, deadline: Deadline, *, after: int = 0) -> Line | None:
        """The kernel line ``extsys-mark: TEXT``, waited for.

        The guest's program writes it to /dev/kmsg.  What the kernel said before
        it, from the mark before, belongs to what the program did between.
        """
        wanted = f"{MARK}{text}"
        return self._wait(lambda line: line.message == wanted, deadline, after)

    def since(self, mark: Line) -> tuple[Line, ...]:
        """The lines behind a mark."""
        with self._changed:
            return tuple(self._log.lines[mark.number :])

    def events_between(self, first: Line | int, last: Line | int | None = None) -> list[Event]:
        """The events behind line ``first`` and, if given, before line ``last``."""
        low = first if isinstance(first, int) else first.number
        high = last.number if isinstance(last, Line) else last
        return [e for e in self.events if e.line > low and (high is None or e.line < high)]

    def settle(self, seconds: float) -> None:
        """Wait until every report is whole, the stream ends, or time is up."""
        deadline = Deadline.after(seconds, "the end of a kernel report")
        with self._changed:
            while not self._ended and not all(event.whole for event in self._log.events):
                if not self._changed.wait(deadline.left) and deadline.passed:
                    return

    def join(self, seconds: float) -> bool:
        """Wait for the stream's end; whether it came."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def close(self) -> None:
        """Stop reading, and give back every descriptor.  The lines remain."""
        with contextlib.suppress(OSError):
            os.write(self._stop_write, b"x")
        self._thread.join()
        for name in ("_stop_read", "_stop_write", "_trouble"):
            fd = getattr(self, name)
            if fd >= 0:
                os.close(fd)
                setattr(self, name, -1)
        self._file.close()

    def _wait(self, wanted: Callable[[Line], bool], deadline: Deadline, after: int) -> Line | None:
        seen = after
        with self._changed:
            self._waiting += 1
            try:
                while True:
                    lines = self._log.lines
                    for line in lines[seen:]:
                        if wanted(line):
                            return line
                    seen = max(seen, len(lines))
                    if self._ended or deadline.passed:
                        return None
                    self._changed.wait(deadline.left)
            finally:
                self._waiting -= 1

    def _run(self) -> None:
        try:
            for data in self._chunks():
                self._file.write(data)
                with self._changed:
                    self._log.feed(data)
                    trouble = any(event.fatal for event in self._log.events)
                    self._changed.notify_all()
                if trouble:
                    self._alarm()
        except OSError as exc:  # a full disk: the guest is fine, its record is not
            self._failure = exc
        finally:
            with self._changed:
                self._log.end()
                self._ended = True
                self._changed.notify_all()
            self._alarm()

    def _chunks(self) -> Iterator[bytes]:
        stop, either = select.poll(), select.poll()
        stop.register(self._stop_read, select.POLLIN)
        either.register(self._stop_read, select.POLLIN)
        either.register(self._source.fileno(), select.POLLIN)
        while True:
            either.poll()
            # Nobody who waits for a line is kept waiting for it.
            if stop.poll(0 if self._waiting else PAUSE_MS):
                return
            data = self._source.read()
            if not data:
                return
            yield data

    def _alarm(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_write(self._trouble, 1)

    @property
    def failure(self) -> BaseException | None:
        """Why the record is not complete, if it is not."""
        return self._failure


def read_log(path: Path) -> Log:
    """The lines and events of a console log that was kept."""
    log = Log()
    log.feed(path.read_bytes())
    log.end()
    return log


def quote(lines: Sequence[str]) -> str:
    """Console lines as they are shown below a message."""
    return "\n".join(f"  | {line}" for line in lines)
