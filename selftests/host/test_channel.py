# SPDX-License-Identifier: GPL-2.0-only
"""harness.channel: requests and answers over a real socket, with a peer of the test's own."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from harness import wire
from harness.channel import CallerGoneError, Channel, RefusedError, status_text
from harness.wire import Frame, lib
from vm.deadline import Deadline
from vm.errors import GuestError, InfraError, Verdict

OK = frozenset({lib.WIRE_T_OK})


@pytest.fixture(name="ends")
def _ends() -> Iterator[tuple[Channel, socket.socket]]:
    """A channel, and its peer's end.  The channel's first request has seq 1."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Channel(ours), theirs


Ends = tuple[Channel, socket.socket]


def soon(seconds: float = 5.0) -> Deadline:
    return Deadline.after(seconds, "the answer")


def reply(kind: int, payload: bytes = b"", *, seq: int = 1, channel: int = 0) -> bytes:
    return Frame(type=kind, channel=channel, seq=seq, payload=payload).encode()


def hello(**fields: object) -> bytes:
    return reply(lib.WIRE_T_HELLO, wire.pack("wire_hello", **fields), seq=0)


# The first frame.


def test_hello(ends: Ends) -> None:
    channel, peer = ends
    peer.sendall(
        hello(version=lib.WIRE_VERSION, cpus=2, page_size=4096, hypervisor=b"KVM", release=b"6.12")
    )
    said = channel.hello(soon())
    assert (said.cpus, said.page_size) == (2, 4096)
    assert (said.hypervisor, said.release) == ("KVM", "6.12")


def test_an_agent_of_another_version_is_refused_by_name(ends: Ends) -> None:
    channel, peer = ends
    peer.sendall(hello(version=lib.WIRE_VERSION + 1))
    with pytest.raises(InfraError, match="speaks version 2, we 1") as caught:
        channel.hello(soon())
    assert caught.value.hint


def test_a_first_frame_that_is_no_hello(ends: Ends) -> None:
    channel, peer = ends
    peer.sendall(reply(lib.WIRE_T_OK))
    with pytest.raises(InfraError, match=f"of type {lib.WIRE_T_OK}, not HELLO"):
        channel.hello(soon())


# Requests.


def test_a_request_is_one_frame_and_numbers_grow(ends: Ends) -> None:
    channel, peer = ends
    for seq in (1, 2, 3):
        peer.sendall(reply(lib.WIRE_T_OK, b"said", seq=seq))
        answer = channel.request(7, b"asked", channel=2, deadline=soon(), until=OK)
        assert answer == Frame(type=lib.WIRE_T_OK, channel=0, seq=seq, payload=b"said")
        assert peer.recv(1000) == Frame(type=7, channel=2, seq=seq, payload=b"asked").encode()


def test_answers_to_a_request_that_was_given_up_are_passed_over(ends: Ends) -> None:
    channel, peer = ends
    with pytest.raises(GuestError):
        channel.request(7, deadline=soon(0.05), until=OK)
    peer.sendall(reply(lib.WIRE_T_OK, b"late", seq=1) + reply(lib.WIRE_T_REFUSED, b"", seq=1))
    peer.sendall(reply(lib.WIRE_T_OK, b"mine", seq=2))
    assert channel.request(7, deadline=soon(), until=OK).payload == b"mine"


def test_frames_before_the_last_are_handed_on(ends: Ends) -> None:
    channel, peer = ends
    for payload in (b"one", b"two"):
        peer.sendall(reply(lib.WIRE_T_OUTPUT, payload))
    peer.sendall(reply(lib.WIRE_T_OK))
    seen: list[bytes] = []
    channel.request(7, deadline=soon(), until=OK, on_frame=lambda frame: seen.append(frame.payload))
    assert seen == [b"one", b"two"]


def trickle(peer: socket.socket, *, every: float, count: int) -> threading.Thread:
    """Progress now and then, and OK at the end."""

    def run() -> None:
        for _ in range(count):
            time.sleep(every)
            peer.sendall(reply(lib.WIRE_T_PROGRESS))
        peer.sendall(reply(lib.WIRE_T_OK))

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_progress_extends_the_deadline_only_where_it_was_asked_to(ends: Ends) -> None:
    channel, peer = ends
    thread = trickle(peer, every=0.1, count=6)
    channel.request(7, deadline=soon(0.3), until=OK, on_frame=lambda frame: None, silence=0.3)
    thread.join()


def test_progress_alone_does_not_extend_it(ends: Ends) -> None:
    channel, peer = ends
    thread = trickle(peer, every=0.1, count=6)
    with pytest.raises(GuestError, match=r"the answer within 0\.3 s"):
        channel.request(7, deadline=soon(0.3), until=OK, on_frame=lambda frame: None)
    thread.join()


def test_a_request_that_no_peer_would_take_is_not_sent(ends: Ends) -> None:
    channel, peer = ends
    with pytest.raises(InfraError, match="262145 bytes; 262144 at most"):
        channel.request(7, b"\0" * (wire.MAX_PAYLOAD + 1), deadline=soon(), until=OK)
    peer.setblocking(False)
    with pytest.raises(BlockingIOError):
        peer.recv(1)


def test_a_long_request_arrives_whole(ends: Ends) -> None:
    """More than a socket buffer holds, read by a peer that takes its time."""
    channel, peer = ends
    payload = bytes(range(256)) * (wire.MAX_PAYLOAD // 256)
    got = bytearray()

    def read_slowly() -> None:
        while len(got) < wire.HEADER_BYTES + len(payload):
            got.extend(peer.recv(50_000))
        peer.sendall(reply(lib.WIRE_T_OK))

    thread = threading.Thread(target=read_slowly)
    thread.start()
    channel.request(7, payload, deadline=soon(), until=OK)
    thread.join()
    assert got[wire.HEADER_BYTES :] == payload


# Refusals and deaths.


def test_a_refusal_carries_its_reason(ends: Ends) -> None:
    channel, peer = ends
    refusal = wire.pack("wire_refusal", code=lib.WIRE_E_SYSTEM, value=errno.ENOENT)
    peer.sendall(reply(lib.WIRE_T_REFUSED, refusal))
    with pytest.raises(RefusedError, match="READ: No such file or directory") as caught:
        channel.request(lib.WIRE_T_READ, deadline=soon(), until=OK)
    assert caught.value.errno == errno.ENOENT
    refusal = wire.pack("wire_refusal", code=lib.WIRE_E_SHAPE, value=5)
    peer.sendall(reply(lib.WIRE_T_REFUSED, refusal, seq=2))
    with pytest.raises(RefusedError, match=r"PROGRAM: refused: SHAPE \(5\)") as caught:
        channel.request(lib.WIRE_T_PROGRAM, deadline=soon(), until=OK)
    assert (caught.value.errno, caught.value.code, caught.value.value) == (None, 4, 5)


def gone(channel: int, status: int) -> bytes:
    payload = wire.pack("wire_gone", pid=1, status=status)
    return reply(lib.WIRE_T_GONE, payload, seq=0, channel=channel)


def test_the_death_of_the_caller_asked_ends_the_request(ends: Ends) -> None:
    channel, peer = ends
    peer.sendall(gone(3, 9))
    with pytest.raises(CallerGoneError, match="channel 3 died: killed by SIGKILL") as caught:
        channel.request(lib.WIRE_T_PROGRAM, channel=3, deadline=soon(), until=OK)
    assert caught.value.status == 9
    assert caught.value.verdict is Verdict.FAIL


def test_the_death_of_another_caller_does_not(ends: Ends) -> None:
    channel, peer = ends
    peer.sendall(gone(2, 9) + reply(lib.WIRE_T_OK))
    channel.request(lib.WIRE_T_PROGRAM, channel=3, deadline=soon(), until=OK)


def test_the_death_of_the_last_caller_is_no_answer_to_the_start_of_the_next(ends: Ends) -> None:
    """It died unasked: its last frame is still in the socket when another is started."""
    channel, peer = ends
    peer.sendall(gone(3, 9) + reply(lib.WIRE_T_OK))
    channel.request(lib.WIRE_T_START, b"path", channel=3, deadline=soon(), until=OK)


# Several at once.


def requests_at(peer: socket.socket, count: int) -> list[Frame]:
    """The next requests that the peer is sent."""
    decoder = wire.Decoder()
    found: list[Frame] = []
    while len(found) < count:
        decoder.feed(peer.recv(1 << 16))
        while (frame := decoder.take()) is not None:
            found.append(frame)
    return found


def test_each_channel_has_one_request_at_a_time(ends: Ends) -> None:
    """The next goes where one has just been answered; answers are in the requests' order."""
    channel, peer = ends
    order: list[tuple[int, bytes]] = []

    def serve() -> None:
        waiting = {one.channel: one for one in requests_at(peer, 2)}
        for busy in (2, 5, 5, 5, 2):  # who is the next to be done
            one = waiting.pop(busy)
            order.append((busy, one.payload))
            peer.sendall(reply(lib.WIRE_T_PROGRESS, one.payload, seq=one.seq, channel=busy))
            peer.sendall(reply(lib.WIRE_T_OK, one.payload * 2, seq=one.seq, channel=busy))
            if len(order) < 4:
                (following,) = requests_at(peer, 1)
                assert following.channel == busy
                waiting[busy] = following

    thread = threading.Thread(target=serve)
    thread.start()
    told: list[tuple[int, bytes]] = []
    answers = channel.spread(
        7,
        [b"a", b"b", b"c", b"d", b"e"],
        channels=[2, 5],
        deadline=soon(),
        until=OK,
        on_frame=lambda index, frame: told.append((index, frame.payload)),
    )
    thread.join()
    assert [one.payload for one in answers] == [b"aa", b"bb", b"cc", b"dd", b"ee"]
    assert sorted(told) == list(enumerate([b"a", b"b", b"c", b"d", b"e"]))
    assert {payload for _, payload in order} == {b"a", b"b", b"c", b"d", b"e"}


@pytest.mark.parametrize("channel_of_the_dead", [2, 5])
def test_the_death_of_any_caller_asked_ends_them_all(ends: Ends, channel_of_the_dead: int) -> None:
    channel, peer = ends
    peer.sendall(gone(3, 9) + gone(channel_of_the_dead, 9))
    with pytest.raises(CallerGoneError, match=f"channel {channel_of_the_dead} died"):
        channel.spread(lib.WIRE_T_SWEEP, [b"a"] * 3, channels=[2, 5], deadline=soon(), until=OK)


def test_one_that_is_silent_is_not_excused_by_another(ends: Ends) -> None:
    channel, peer = ends
    thread = trickle(peer, every=0.1, count=8)
    with pytest.raises(GuestError, match=r"the answer within 0\.3 s"):
        channel.spread(7, [b"a"] * 2, channels=[2, 5], deadline=soon(0.3), until=OK, silence=0.3)
    thread.join()


# The machine behind it.


def test_no_answer_is_a_hang_within_the_deadline(ends: Ends) -> None:
    channel, _ = ends
    started = time.monotonic()
    with pytest.raises(GuestError, match=r"no answer: the answer within 0\.1 s") as caught:
        channel.request(7, deadline=soon(0.1), until=OK)
    assert caught.value.verdict is Verdict.HANG
    assert time.monotonic() - started < 2.0


def test_a_peer_that_reads_nothing_is_a_hang(ends: Ends) -> None:
    channel, _ = ends
    with pytest.raises(GuestError, match="request not taken") as caught:
        channel.send_raw(b"\0" * 16 * wire.MAX_PAYLOAD, soon(0.1))
    assert caught.value.verdict is Verdict.HANG


@pytest.mark.parametrize("junk", [b"", b"\0" * 100, reply(lib.WIRE_T_OK)[:10]])
def test_a_connection_that_ends_is_a_loss(ends: Ends, junk: bytes) -> None:
    channel, peer = ends
    peer.sendall(junk)
    peer.shutdown(socket.SHUT_RDWR)
    with pytest.raises(GuestError, match="the connection to the agent ended") as caught:
        channel.request(7, deadline=soon(), until=OK)
    assert caught.value.verdict is Verdict.LOST
    peer.close()
    with pytest.raises(GuestError) as caught:
        channel.send_raw(b"more", soon())
    assert caught.value.verdict is Verdict.LOST


def test_the_watcher_ends_a_wait_at_once() -> None:
    """A panic is not waited out: its owner is asked while nothing comes."""
    asked = []

    def watch() -> None:
        asked.append(time.monotonic())
        if len(asked) == 2:
            raise GuestError("the kernel panicked", verdict=Verdict.PANIC)

    ours, theirs = socket.socketpair()
    with ours, theirs:
        started = time.monotonic()
        with pytest.raises(GuestError) as caught:
            Channel(ours, watch=watch).request(7, deadline=soon(60), until=OK)
    assert caught.value.verdict is Verdict.PANIC
    assert time.monotonic() - started < 5.0


def test_what_the_watcher_knows_is_better_than_lost(ends: Ends) -> None:
    """QEMU's end closes the socket; that the kernel panicked before is the news."""

    def watch() -> None:
        raise GuestError("the kernel panicked", verdict=Verdict.PANIC)

    ours, theirs = socket.socketpair()
    with ours:
        theirs.close()
        with pytest.raises(GuestError) as caught:
            Channel(ours, watch=watch).request(7, deadline=soon(), until=OK)
    assert caught.value.verdict is Verdict.PANIC


def test_junk_before_an_answer_is_passed_over(ends: Ends) -> None:
    channel, peer = ends
    peer.sendall(b"[  1.0] kernel message\n" + reply(lib.WIRE_T_OK))
    channel.request(7, deadline=soon(), until=OK)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "exit code 0"),
        (0x100, "exit code 1"),
        (0xFF00, "exit code 255"),
        (9, "killed by SIGKILL"),
        (11 | 0x80, "killed by SIGSEGV"),
        (34, "killed by SIGRTMIN"),
        (0x7E, "killed by signal 126"),
    ],
)
def test_a_wait_status_in_words(status: int, words: str) -> None:
    assert status_text(status) == words
