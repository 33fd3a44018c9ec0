# SPDX-License-Identifier: GPL-2.0-only
"""A kernel of a test's own: one system call of a live caller, answered here.

seccomp(2) hands the call over before the kernel looks at its number
(SECCOMP_RET_USER_NOTIF): the test sees every register as the kernel has it,
reads and writes the caller's memory while the caller waits, and chooses what
the call returns, a descriptor included.  So what a sweep does is compared with
what it should do at each single call, and a kernel with a fault of a known
kind is a few lines of Python.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import errno
import fcntl
import os
import select
import struct
import threading
from collections.abc import Callable, Iterator

import hosttarget

from harness.abi import ABI
from harness.program import MAX_ERRNO, SCRATCH, Program, at
from harness.target import Target

#: A number that no table has; seccomp sees it all the same.
NUMBER = 2047
X32_BIT = 0x40000000

LIBC = ctypes.CDLL(None, use_errno=True)
NR_PIDFD_GETFD = 438  # of every architecture

PR_SET_NO_NEW_PRIVS = 38
SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_NEW_LISTENER = 8
SECCOMP_RET_ALLOW = 0x7FFF0000
SECCOMP_RET_TRAP = 0x00030000
SECCOMP_RET_USER_NOTIF = 0x7FC00000

#: struct seccomp_notif, seccomp_notif_resp and seccomp_notif_addfd.
NOTIF = struct.Struct("=QII iIQ6Q")
RESPONSE = struct.Struct("=QqiI")
ADDFD = struct.Struct("=QIIII")
NOTIF_RECV = 0xC0502100
NOTIF_SEND = 0xC0182101
NOTIF_ID_VALID = 0x40082102
NOTIF_ADDFD = 0x40182103
ADDFD_FLAG_SEND = 2


def number(abi: ABI) -> int:
    """NUMBER as a caller of ``abi`` has to write it."""
    return NUMBER | (X32_BIT if abi.name == "mx32" else 0)


def filter_bytes(wanted: int, action: int) -> bytes:
    """A BPF program: ``action`` for the call ``wanted``, all others are allowed."""
    code = (
        (0x20, 0, 0, 0),  # load seccomp_data.nr
        (0x15, 0, 1, wanted),  # equal: the next one, else the one behind
        (0x06, 0, 0, action),
        (0x06, 0, 0, SECCOMP_RET_ALLOW),
    )
    return b"".join(struct.pack("=HBBI", *one) for one in code)


def install(target: Target, abi: ABI, *, wanted: int, action: int, flags: int = 0) -> int:
    """Put a filter on the caller of ``abi``; what seccomp(2) returned.

    A filter cannot be taken off: restart the caller when done with it.
    """
    nr = hosttarget.numbers(abi)
    where = hosttarget.look_up(target, abi)
    code = filter_bytes(wanted, action)
    head = struct.pack("<HxxI" if abi.pointer == 4 else "<HxxxxxxQ", 4, where.scratch + 64)
    program = Program()
    program.write(SCRATCH, 0, head)
    program.write(SCRATCH, 64, code)
    program.syscall(nr["prctl"], PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    made = program.syscall(nr["seccomp"], SECCOMP_SET_MODE_FILTER, flags, at(SCRATCH))
    result = target.caller(abi).run(program)[made.index]
    if result.errno:
        raise OSError(result.errno, os.strerror(result.errno))
    return result.ret


@dataclasses.dataclass(frozen=True, kw_only=True)
class Called:
    """One call, as the kernel has it."""

    number: int
    arch: int  #: AUDIT_ARCH_*
    args: tuple[int, ...]
    ident: int = 0  #: seccomp's own
    pid: int = 0  #: who makes it: the caller, or a child of its


@dataclasses.dataclass(frozen=True)
class Descriptor:
    """An answer: the caller gets a descriptor of its own for this one, which is closed."""

    fd: int
    cloexec: bool = False


Answer = Callable[[Called], int | Descriptor]


class FakeKernel:
    """What stands behind NUMBER in one caller.

    ``answer`` is called for each call, in a thread; what it returns is the
    call's result, negative for an errno.  It may use ``read`` and ``write``.
    """

    def __init__(self, target: Target, abi: ABI) -> None:
        self.target = target
        self.abi = abi
        self.process = hosttarget.look_up(target, abi)
        self.pid = self.process.pid  #: of who makes the call that is answered
        self.answer: Answer = lambda call: -errno.ENOSYS
        self.calls = 0
        self.broken: BaseException | None = None
        fd = install(
            target,
            abi,
            wanted=number(abi),
            action=SECCOMP_RET_USER_NOTIF,
            flags=SECCOMP_FILTER_FLAG_NEW_LISTENER,
        )
        pidfd = os.pidfd_open(self.process.pid)
        try:
            self._listener = LIBC.syscall(NR_PIDFD_GETFD, pidfd, fd, 0)
        finally:
            os.close(pidfd)
        if self._listener < 0:
            raise OSError(ctypes.get_errno(), "pidfd_getfd")
        self._wake, self._stop = os.pipe()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _transfer(self, call: str, address: int, buffer: ctypes.Array[ctypes.c_char]) -> int:
        ours = struct.pack("=QQ", ctypes.addressof(buffer), len(buffer))
        theirs = struct.pack("=QQ", address, len(buffer))
        done: int = getattr(LIBC, call)(self.pid, ours, 1, theirs, 1, 0)
        return max(0, done)

    def read(self, address: int, length: int) -> bytes:
        """The caller's memory; shorter than asked for where a page cannot be read."""
        buffer = ctypes.create_string_buffer(length)
        done = self._transfer("process_vm_readv", address, buffer)
        return buffer.raw[:done]

    def write(self, address: int, data: bytes) -> bool:
        """Write to the caller's memory; False when a page cannot be written."""
        buffer = ctypes.create_string_buffer(data, len(data))
        return self._transfer("process_vm_writev", address, buffer) == len(data)

    def waits(self, call: Called) -> bool:
        """Whether the caller still waits for this call's answer: no signal has come."""
        try:
            fcntl.ioctl(self._listener, NOTIF_ID_VALID, struct.pack("=Q", call.ident))
        except FileNotFoundError:
            return False
        return True

    def _serve(self) -> None:
        while True:
            ready, _, _ = select.select([self._listener, self._wake], [], [])
            if self._wake in ready:
                return
            raw = bytearray(NOTIF.size)
            try:
                fcntl.ioctl(self._listener, NOTIF_RECV, raw)
            except OSError:
                return  # the caller is gone
            ident, self.pid, _, nr, arch, _, *args = NOTIF.unpack(raw)
            self.calls += 1
            called = Called(number=nr, arch=arch, args=tuple(args), ident=ident, pid=self.pid)
            try:
                result = self.answer(called)
            except BaseException as exc:  # close() raises it
                self.broken = exc
                result = -errno.EIO
            with contextlib.suppress(FileNotFoundError):  # a signal ended the wait
                self._reply(ident, result)

    def _reply(self, ident: int, result: int | Descriptor) -> None:
        if isinstance(result, Descriptor):
            try:
                flags = os.O_CLOEXEC if result.cloexec else 0
                raw = ADDFD.pack(ident, ADDFD_FLAG_SEND, result.fd, 0, flags)
                fcntl.ioctl(self._listener, NOTIF_ADDFD, raw)
            finally:
                os.close(result.fd)
            return
        value, error = (0, result) if -MAX_ERRNO <= result < 0 else (result, 0)
        fcntl.ioctl(self._listener, NOTIF_SEND, bytearray(RESPONSE.pack(ident, value, error, 0)))

    def close(self) -> None:
        os.write(self._stop, b"x")
        self._thread.join()
        for fd in (self._listener, self._wake, self._stop):
            os.close(fd)
        self.target.restart(self.abi)
        if self.broken:
            raise self.broken


@contextlib.contextmanager
def fake_kernel(target: Target, abi: ABI) -> Iterator[FakeKernel]:
    """Answer NUMBER in the caller of ``abi``; a fresh caller afterwards."""
    kernel = FakeKernel(target, abi)
    try:
        yield kernel
    finally:
        kernel.close()
