"""Folders for unfinished work, whose process is killed."""

import os
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "models"))
from scratch import YOUNG, scratch_folder  # noqa: E402

WAITING = """
import pathlib, sys, time
from scratch import scratch_folder
with scratch_folder(".work-", pathlib.Path(sys.argv[1])) as folder:
    (folder / "large").write_bytes(bytes(1000))
    print(folder, flush=True)
    time.sleep(100)
"""


class ScratchFolder(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.place = Path(place.name)

    def begun(self):
        """A process at work in its folder, which is no longer new."""
        process = subprocess.Popen(
            [sys.executable, "-c", WAITING, self.place], cwd=ROOT / "models", stdout=subprocess.PIPE, text=True
        )
        self.addCleanup(lambda: (process.kill(), process.wait(), process.stdout.close()))
        folder = Path(process.stdout.readline().strip())
        os.utime(folder, (1, folder.stat().st_mtime - 2 * YOUNG))
        return process, folder

    def test_goes_with_its_context_also_after_an_error(self):
        with self.assertRaises(ZeroDivisionError), scratch_folder(".work-", self.place) as folder:
            self.assertTrue(folder.is_dir())
            (folder / "file").touch()
            1 / 0  # noqa: B018
        self.assertEqual(list(self.place.iterdir()), [])

    def test_what_killed_processes_left_goes_and_nothing_else(self):
        killed, left = self.begun()
        _, used = self.begun()
        (self.place / ".other-1").mkdir()
        (self.place / ".work-2").mkdir()  # of a process that has not locked it yet
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        self.assertTrue((left / "large").exists())
        with scratch_folder(".work-", self.place) as folder:
            self.assertEqual(
                {path.name for path in self.place.iterdir()}, {used.name, folder.name, ".other-1", ".work-2"}
            )


if __name__ == "__main__":
    unittest.main()
