"""Download a file so that it is whole or not there: resumed after a cut, checked, and given its name at the end.

The bytes go to NAME.partial, and what identifies them (address, validator) to NAME.partial.json; a later call goes on
from there if the server still has the same file. Proxies come from the environment (http_proxy, https_proxy, no_proxy);
file:// addresses work as well.
"""

import fcntl
import hashlib
import http.client
import json
import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHUNK = 1 << 20
TIMEOUT = 60.0  # seconds without a byte
ATTEMPTS = 5  # in a row without a new byte
Progress = Callable[[int, int | None], None]  # bytes so far, bytes in all where known


class DownloadError(OSError):
    """One line: the address, what was wrong, and where to put the file by hand."""


class _Cut(Exception):
    """The transfer ended early or was refused for now: worth another attempt."""


class _Hopeless(Exception):
    """Another attempt would end alike."""


@dataclass
class Download:
    """One file to fetch to `dest`. `bytes` and `sha256` are checked where they are known."""

    url: str
    dest: Path
    sha256: str | None = None
    bytes: int | None = None
    progress: Progress = lambda done, total: None
    first_delay: float = 1.0  # seconds before the second attempt; doubled for each further one

    def run(self) -> Path:
        """Fetch the file unless it is there, and return its path. Raises DownloadError."""
        try:
            if not self.dest.exists():
                self.dest.parent.mkdir(parents=True, exist_ok=True)
                with open(self.dest.with_name(self.dest.name + ".lock"), "a") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX)  # another process may be at it: then wait, and find its file
                    if not self.dest.exists():
                        self._fetch_and_check()
                    Path(lock.name).unlink(missing_ok=True)
            self._check_size(self.dest, "delete it to fetch it again")
            return self.dest
        except (_Hopeless, OSError, ValueError) as error:
            raise DownloadError(
                f"cannot fetch {self.url}: {_reason(error)}; the file can also be put into {self.dest.parent} by hand, "
                f"as {self.dest.name}"
            ) from error

    @property
    def _partial(self) -> Path:
        return self.dest.with_name(self.dest.name + ".partial")

    @property
    def _about(self) -> Path:
        return self.dest.with_name(self.dest.name + ".partial.json")

    def _fetch_and_check(self) -> None:
        self._partial.touch()
        try:
            self._fetch_all()
            try:
                self._check_size(self._partial, "it was discarded")
                self._check_sha256(self._partial)
            except _Hopeless:
                self._forget()
                raise
            os.replace(self._partial, self.dest)
        finally:
            if not self._partial.exists() or self._partial.stat().st_size == 0:
                self._partial.unlink(missing_ok=True)
                self._about.unlink(missing_ok=True)

    def _fetch_all(self) -> None:
        failures, most = 0, -1
        while True:
            try:
                self._fetch_rest()
                return
            except (_Cut, http.client.HTTPException, ConnectionError, TimeoutError, urllib.error.URLError) as error:
                unreachable = isinstance(error, urllib.error.URLError) and most < 0
                have = self._partial.stat().st_size
                failures = 1 if have > most else failures + 1
                most = max(most, have)
                if unreachable or failures >= ATTEMPTS:
                    raise _Hopeless(_reason(error)) from error
                time.sleep(self.first_delay * 2 ** (failures - 1))

    def _fetch_rest(self) -> None:
        """One request: for what is missing if the server can tell that it is the same file, else for everything."""
        have, about = self._partial.stat().st_size, self._read_about()
        headers = {"User-Agent": "epd", "Accept-Encoding": "identity"}
        if have and about.get("url") == self.url and about.get("validator"):
            headers |= {"Range": f"bytes={have}-", "If-Range": about["validator"]}
        try:
            # An opener of its own reads the proxies from the environment as it is now.
            response = urllib.request.build_opener().open(
                urllib.request.Request(self.url, headers=headers), timeout=TIMEOUT
            )
        except urllib.error.HTTPError as error:
            with error:
                return self._refused(error, have, about.get("total"))
        with response:
            resumed = response.status == 206
            if resumed and not str(response.headers.get("Content-Range", "")).startswith(f"bytes {have}-"):
                self._forget()
                raise _Cut("the server went on at another place than asked")
            self._receive(response, have if resumed else 0)

    def _refused(self, error: urllib.error.HTTPError, have: int, announced: int | None) -> None:
        if error.code == 416:  # nothing beyond what we have: whole, or another file
            if error.headers.get("Content-Range") == f"bytes */{have}" and announced in (have, None):
                return
            self._forget()
            raise _Cut("the server has no such part of the file")
        reason = f"the server answers {error.code} {error.reason}"
        raise _Cut(reason) if error.code in (408, 429) or error.code >= 500 else _Hopeless(reason)

    def _receive(self, response: Any, start: int) -> None:
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        if total is not None and self.bytes is not None and total != self.bytes:
            raise _Hopeless(f"the server announces {total} bytes, the file is known to have {self.bytes}")
        chunked = getattr(response, "chunked", False)  # tells its end itself
        if total is None and self.bytes is None and self.sha256 is None and not chunked:
            raise _Hopeless("the server does not say how long the file is, so a cut would go unnoticed")
        chunk = response.read(CHUNK)
        if start == 0 and _is_web_page(response, chunk):
            raise _Hopeless("the server sends a web page instead of the file")
        have = start
        with open(self._partial, "r+b") as file:
            file.truncate(start)
            file.seek(start)
            self._write_about(response, total)
            while chunk:
                file.write(chunk)
                have += len(chunk)
                self.progress(have, total or self.bytes)
                chunk = response.read(CHUNK)
            file.flush()
            os.fsync(file.fileno())
        expected = total if total is not None else self.bytes
        if expected is not None and have < expected:
            raise _Cut(f"the connection was cut after {have} of {expected} bytes")

    def _read_about(self) -> dict[str, Any]:
        try:
            about = json.loads(self._about.read_text())
        except (OSError, ValueError):
            return {}
        return about if isinstance(about, dict) else {}

    def _write_about(self, response: Any, total: int | None) -> None:
        tag = response.headers.get("ETag", "")
        strong = tag if tag and not tag.startswith("W/") else None  # weak tags do not promise equal bytes
        validator = strong or response.headers.get("Last-Modified")
        about = {"url": self.url, "validator": validator if response.status else None, "total": total}
        self._about.write_text(json.dumps(about))

    def _forget(self) -> None:
        os.truncate(self._partial, 0)
        self._about.unlink(missing_ok=True)

    def _check_size(self, path: Path, then: str) -> None:
        size = path.stat().st_size
        if self.bytes is not None and size != self.bytes:
            raise _Hopeless(f"{path} has {size} bytes instead of {self.bytes}; {then}")

    def _check_sha256(self, path: Path) -> None:
        if self.sha256 and (digest := sha256_of(path)) != self.sha256.lower():
            raise _Hopeless(f"what came has the sha256 {digest} instead of {self.sha256}; it was discarded")


def note_sums(*paths: Path) -> None:
    """Enter files of one folder into SHA256SUMS beside them, against which the programs check what they read."""
    file = paths[0].parent / "SHA256SUMS"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    sums = {line[66:]: line[:64] for line in lines} | {path.name: sha256_of(path) for path in paths}
    partial = file.with_name("SHA256SUMS.partial")
    partial.write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()), encoding="utf-8")
    partial.replace(file)


def sha256_of(path: Path | str) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()


def _is_web_page(response: Any, start: bytes) -> bool:
    kind = response.headers.get_content_type()
    head = start[:512].lstrip().lower()
    return kind in ("text/html", "application/xhtml+xml") or head.startswith((b"<!doctype html", b"<html"))


def _reason(error: Exception) -> str:
    cause = getattr(error, "reason", error)
    if isinstance(cause, socket.gaierror):
        return f"no such host or no network ({cause.strerror})"
    if isinstance(cause, TimeoutError):
        return f"no answer for {TIMEOUT:.0f} s"
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
