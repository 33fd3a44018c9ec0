# SPDX-License-Identifier: GPL-2.0-only
"""Kernel tarballs from kernel.org or a mirror, checked before they are used.

The checksum comes from the `sha256sums.asc` beside the tarball, which
kernel.org signs, and from our own table where it has one: both must agree.
"""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import re
import shutil
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import IO, Any

from vm import proc
from vm.deadline import Deadline
from vm.errors import InfraError, UserError
from vm.progress import Step, step

#: Name of the checksum list in each directory of kernel.org's.
SUMS = "sha256sums.asc"

#: Largest checksum list that is believed to be one, in bytes (it has 500 KB).
SUMS_LIMIT = 16 << 20

#: Bytes read at once.
CHUNK = 1 << 18

#: Deadline of gpg, in seconds.
GPG_SECONDS = 60.0

MENDING = (
    "name another directory with the same files: EXTSYS_MIRROR=URL, or "
    "KERNEL_TREE=DIR for a tree of your own"
)

_SIGNED = "-----BEGIN PGP SIGNED MESSAGE-----"
_SIGNATURE = "-----BEGIN PGP SIGNATURE-----"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """How long to bear with a server."""

    stall: float = 30.0  #: seconds without a byte
    whole: float = 3600.0  #: seconds for one file
    attempts: int = 3
    backoff: float = 2.0  #: seconds before the second attempt, doubled each time


#: For kernel.org and its mirrors.
PATIENT = Network()


class _Transient(Exception):  # noqa: N818 - never leaves this module
    """A failure that another attempt may not meet."""


def fetch_checked(
    base: str,
    target: Path,
    *,
    pinned: str | None = None,
    signer: str | None = None,
    network: Network = PATIENT,
) -> tuple[str, str]:
    """Download ``base``/NAME as ``target`` (NAME is its name) and check it.

    ``pinned`` is the SHA-256 that our own table has; ``signer`` the fingerprint
    of the key that must have signed sha256sums.asc, if gpg has it.  Returns the
    SHA-256 and, for people, what became of the signature.

    Raises InfraError when the server does not deliver, when the list has no
    such file, and when the file is not what the list or the table says; then
    ``target`` does not exist.
    """
    base = base.rstrip("/")
    if urllib.parse.urlsplit(base).scheme not in ("http", "https", "file"):
        raise UserError(
            f"{base}: not an http, https or file URL",
            hint=f"a mirror is the URL of the directory that has {target.name} and {SUMS}",
        )
    name = target.name
    with tempfile.TemporaryDirectory(prefix="extsys-sums-") as temp:
        sums = Path(temp) / SUMS
        _fetch(f"{base}/{SUMS}", sums, network, limit=SUMS_LIMIT)
        published = _published(sums, f"{base}/{SUMS}", name)
        signed = _signature(sums, f"{base}/{SUMS}", signer)
    if pinned is not None and published != pinned:
        raise InfraError(
            f"{base}/{SUMS} says that {name} has SHA-256 {published}; it must be {pinned}",
            hint="the mirror is altered or out of date",
        )
    part = target.with_name(f".{name}.part")
    try:
        found = _fetch(f"{base}/{name}", part, network)
        if found != published:
            raise InfraError(
                f"{base}/{name}: truncated or altered: its SHA-256 is {found}, "
                f"and {SUMS} says {published}",
                hint=MENDING,
            )
        part.rename(target)
    finally:
        part.unlink(missing_ok=True)
    return found, signed


def _published(sums: Path, url: str, name: str) -> str:
    """The SHA-256 that the list has for ``name``; only signed text counts."""
    text = sums.read_text(errors="replace")
    if text.count(_SIGNED) > 1:
        raise InfraError(f"{url}: more than one signed text in it")
    if _SIGNED in text:
        text = text.partition(_SIGNED)[2].partition(_SIGNATURE)[0]
    match = re.search(rf"^([0-9a-f]{{64}})  {re.escape(name)}$", text, re.MULTILINE)
    if match is None:
        raise InfraError(f"{url}: has no line for {name}", hint=MENDING)
    return match[1]


def _signature(sums: Path, url: str, signer: str | None) -> str:
    """Check the list's signature as far as this machine can; say how far.

    Raises InfraError when it is bad.  That gpg or the key is missing is no
    error: the checksum stands, and TLS vouches for the server.
    """
    if not shutil.which("gpg"):
        verdict = "signature not verified: no gpg"
    elif signer is None or _SIGNED not in sums.read_text(errors="replace"):
        verdict = "signature not verified: not signed by a known key"
    else:
        argv = ["gpg", "--batch", "--no-auto-key-retrieve", "--status-fd=1", "--verify", str(sums)]
        out = proc.run(argv, timeout=GPG_SECONDS, check=False, quiet=True).out
        status = re.findall(r"^\[GNUPG:\] (\w+) ?(.*)$", out, re.MULTILINE)
        words = {word for word, _ in status}
        valid = [rest.split() for word, rest in status if word == "VALIDSIG"]
        if "BADSIG" in words:
            raise InfraError(f"{url}: bad signature: the list was altered", hint=MENDING)
        if any(signer in fingerprints for fingerprints in valid):
            verdict = f"signature of {signer} verified"
        elif valid:
            raise InfraError(f"{url}: signed by {valid[0][0]}, not by {signer}", hint=MENDING)
        else:
            verdict = f"signature not verified: gpg has no key {signer}"
    print(f"{SUMS}: {verdict}", file=sys.stderr)
    return verdict


def _fetch(url: str, target: Path, network: Network, limit: int | None = None) -> str:
    """Download one file, with retries; return its SHA-256."""
    deadline = Deadline.after(network.whole, url)
    pause = network.backoff
    for attempt in range(1, network.attempts + 1):
        try:
            with step(f"downloading {url}") as progress:
                return _attempt(
                    url, target, network, deadline=deadline, limit=limit, progress=progress
                )
        except _Transient as exc:
            if attempt == network.attempts or deadline.left <= pause:
                raise InfraError(f"{url}: {exc} ({attempt} attempts)", hint=MENDING) from exc
            print(f"{url}: {exc}; again in {pause:g} s", file=sys.stderr, flush=True)
            time.sleep(pause)
            pause *= 2
    raise AssertionError("network.attempts is at least 1")


def _attempt(
    url: str,
    target: Path,
    network: Network,
    *,
    deadline: Deadline,
    limit: int | None,
    progress: Step,
) -> str:
    request = urllib.request.Request(url, headers={"User-Agent": "extsys"})
    stall = min(network.stall, max(deadline.left, 0.001))
    try:
        with urllib.request.urlopen(request, timeout=stall) as reply, target.open("wb") as out:
            return _body(reply, out, deadline, limit, progress)
    except urllib.error.HTTPError as exc:
        exc.close()  # it holds the connection
        if exc.code >= 500 or exc.code == 429:
            raise _Transient(f"HTTP {exc.code} {exc.reason}") from exc
        raise InfraError(f"{url}: HTTP {exc.code} {exc.reason}", hint=MENDING) from exc
    except TimeoutError as exc:
        raise _Transient(f"no byte within {stall:g} s") from exc
    except urllib.error.URLError as exc:
        # `reason` is text or an exception; a timeout while connecting is there.
        why = f"no answer within {stall:g} s" if isinstance(exc.reason, TimeoutError) else ""
        raise _Transient(why or f"cannot be reached: {exc.reason}") from exc
    except (ConnectionError, http.client.HTTPException) as exc:
        raise _Transient(f"the connection broke: {exc or type(exc).__name__}") from exc


def _body(
    reply: Any,
    out: IO[bytes],
    deadline: Deadline,
    limit: int | None,
    progress: Step,
) -> str:
    size = reply.headers.get("Content-Length")
    total = int(size) if size and size.isdigit() else None
    state = hashlib.sha256()
    done = 0
    while data := reply.read(CHUNK):
        done += len(data)
        if limit is not None and done > limit:
            raise InfraError(f"{deadline.what}: larger than {limit} bytes")
        if deadline.passed:
            raise _Transient(f"{done} of {size or '?'} bytes within {deadline.seconds:g} s")
        out.write(data)
        state.update(data)
        progress.at(done >> 20, total >> 20 if total else None, "MiB")
    if total is not None and done < total:
        raise _Transient(f"truncated: {done} of {total} bytes")
    return state.hexdigest()
