"""How far a download is, on stderr: a bar on a terminal, a plain line now and then elsewhere."""

import sys
import time


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


class DownloadProgress:
    """A Progress (download.py) with the share, the rate and the time left."""

    INTERVAL_TERMINAL, INTERVAL_PLAIN, WIDTH = 0.2, 15.0, 24  # seconds, seconds, characters

    def __init__(self, name: str):
        self.name = name
        self.begin = self.shown = time.monotonic()
        self.first: int | None = None  # bytes that were there before, or came first

    def __call__(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        if self.first is None:
            self.first = done
        terminal = sys.stderr.isatty()
        finished = done == total
        if not finished and now - self.shown < (self.INTERVAL_TERMINAL if terminal else self.INTERVAL_PLAIN):
            return
        self.shown = now
        rate = (done - self.first) / max(now - self.begin, 1e-3)
        line = f"{self.name}: {_size(done)}"
        if total:
            line += f" of {_size(total)} ({100 * done // total} %)"
        line += f", {_size(rate)}/s"
        if total and rate > 0 and not finished:
            line += f", {(total - done) / rate:.0f} s left"
        if not terminal:
            print(line, file=sys.stderr, flush=True)
            return
        filled = self.WIDTH * done // total if total else 0
        bar = f"[{'#' * filled}{'.' * (self.WIDTH - filled)}] " if total else ""
        print(f"\r\033[K{bar}{line}", end="\n" if finished else "", file=sys.stderr, flush=True)
