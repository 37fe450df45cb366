"""Downloads against a server on this machine that cuts, lies, refuses and sends web pages."""

import contextlib
import hashlib
import http.server
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import numpy

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "models"))
import fetch  # noqa: E402
import registry  # noqa: E402
from download import ATTEMPTS, Download, DownloadError  # noqa: E402
from progress import DownloadProgress  # noqa: E402

CONTENT = random.Random(0).randbytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT with ranges; what is set below makes it misbehave."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.cuts: list[int] = []  # bytes sent before each of the next responses is cut
        self.statuses: list[int] = []  # error answers to the next requests
        self.announced: int | None = None  # the length told instead of the true one
        self.validator = '"one"'
        self.ranges, self.lengths, self.chunked, self.page = True, True, False, False
        self.requests: list[tuple[str, str | None]] = []  # path, Range
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/folder/file.bin"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.requests.append((self.path, wanted))
        if server.statuses:
            return self.send_error(server.statuses.pop(0))
        start = 0
        if wanted and server.ranges and self.headers.get("If-Range") == server.validator:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(server.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(server.content)}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
        body = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", "text/html; charset=utf-8" if server.page else "application/octet-stream")
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        if server.validator:
            self.send_header("ETag", server.validator)
        if server.lengths:
            self.send_header("Content-Length", str(len(body) if server.announced is None else server.announced - start))
        if server.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        body = body[: server.cuts.pop(0)] if server.cuts else body
        cut = len(body) < len(server.content) - start
        if server.chunked:
            body = b"%x\r\n%s\r\n" % (len(body), body) + (b"" if cut else b"0\r\n\r\n")
        self.wfile.write(body)
        self.close_connection = True


class Downloads(unittest.TestCase):
    def setUp(self):
        self.server = Server()
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.dest = self.folder / "models" / "file.bin"

    def download(self, **options) -> Path:
        return Download(**({"url": self.server.url, "dest": self.dest, "first_delay": 0.001} | options)).run()

    def ranges(self) -> list[str | None]:
        return [wanted for _, wanted in self.server.requests]

    def assert_whole(self):
        self.assertEqual(self.dest.read_bytes(), CONTENT)
        self.assertEqual([path.name for path in self.dest.parent.iterdir()], ["file.bin"])

    def assert_fails(self, reason: str, **options):
        with self.assertRaises(DownloadError) as caught:
            self.download(**options)
        message = str(caught.exception)
        self.assertIn(reason, message)
        self.assertIn(options.get("url", self.server.url), message)
        self.assertIn(str(self.dest.parent), message)
        self.assertNotIn("\n", message)
        self.assertFalse(self.dest.exists(), "something stands under the final name")

    def test_a_whole_file_lands_under_its_name_and_nothing_else_remains(self):
        self.assertEqual(self.download(sha256=SHA256, bytes=len(CONTENT)), self.dest)
        self.assert_whole()

    def test_a_file_that_is_there_is_not_fetched_again(self):
        self.download()
        self.download(bytes=len(CONTENT))
        self.assertEqual(len(self.server.requests), 1)

    def test_a_file_of_another_size_under_the_final_name_is_pointed_out(self):
        self.dest.parent.mkdir()
        self.dest.write_bytes(b"half")
        with self.assertRaisesRegex(DownloadError, "has 4 bytes instead of 3000000; delete it"):
            self.download(bytes=len(CONTENT))

    def test_a_cut_connection_goes_on_where_it_was_cut(self):
        self.server.cuts = [1_000_000, 500_000]
        self.download(sha256=SHA256)
        self.assertEqual(self.ranges(), [None, "bytes=1000000-", "bytes=1500000-"])
        self.assert_whole()

    def test_a_later_call_goes_on_where_an_earlier_one_gave_up(self):
        self.server.cuts = [700_000] + [0] * ATTEMPTS
        self.assert_fails("the connection was cut after 700000 of 3000000 bytes")
        self.assertEqual(self.dest.with_name("file.bin.partial").read_bytes(), CONTENT[:700_000])
        self.server.cuts, self.server.requests = [], []
        self.download()
        self.assertEqual(self.ranges(), ["bytes=700000-"])
        self.assert_whole()

    def test_a_file_that_changed_between_two_calls_is_fetched_from_its_start(self):
        self.server.content = bytes(2_000_000)
        self.server.cuts = [700_000] + [0] * ATTEMPTS
        self.assert_fails("cut")
        self.server.content, self.server.validator, self.server.cuts = CONTENT, '"two"', []
        self.download(sha256=SHA256)
        self.assert_whole()

    def test_without_a_validator_or_with_a_weak_one_a_cut_file_is_fetched_from_its_start(self):
        for validator in (None, 'W/"weak"'):
            with self.subTest(validator):
                self.dest.unlink(missing_ok=True)
                self.server.validator, self.server.cuts, self.server.requests = validator, [1_000_000], []
                self.download(sha256=SHA256)
                self.assertEqual(self.ranges(), [None, None])
                self.assert_whole()

    def test_a_server_without_ranges_sends_everything_again(self):
        self.server.ranges, self.server.cuts = False, [1_000_000]
        self.download()
        self.assertEqual(self.ranges(), [None, "bytes=1000000-"])
        self.assert_whole()

    def test_a_partial_file_of_another_address_is_not_continued(self):
        self.server.cuts = [700_000] + [0] * ATTEMPTS
        self.assert_fails("cut")
        self.server.cuts, self.server.requests = [], []
        self.download(url=self.server.url + "?other")
        self.assertEqual(self.ranges(), [None])

    def test_a_partial_file_that_is_whole_already_is_accepted(self):
        self.server.cuts = [700_000] + [0] * ATTEMPTS
        self.assert_fails("cut")
        self.dest.with_name("file.bin.partial").write_bytes(CONTENT)
        self.server.cuts = []
        self.download(sha256=SHA256)
        self.assert_whole()

    def test_a_length_that_is_too_large_is_found_out(self):
        self.server.announced = len(CONTENT) + 10
        self.assert_fails("of 3000010 bytes")

    def test_a_length_that_is_too_small_is_found_out_where_the_size_or_hash_is_known(self):
        self.server.announced = len(CONTENT) - 10
        self.assert_fails("announces 2999990 bytes, the file is known to have 3000000", bytes=len(CONTENT))
        self.assert_fails("discarded", sha256=SHA256)

    def test_no_length_at_all_is_refused_unless_the_file_is_known(self):
        self.server.lengths = False
        self.assert_fails("how long")
        self.download(bytes=len(CONTENT))
        self.assert_whole()

    def test_a_chunked_answer_tells_its_own_end(self):
        self.server.lengths, self.server.chunked = False, True
        with mock.patch.object(Handler, "protocol_version", "HTTP/1.1"):
            self.server.cuts = [1_000_000]
            self.download()
        self.assert_whole()

    def test_another_hash_is_refused_and_the_bytes_are_discarded(self):
        self.assert_fails("it was discarded", sha256="0" * 64)
        self.assertEqual([path.name for path in self.dest.parent.glob("*.partial*")], [])

    def test_a_web_page_is_not_taken_for_the_file(self):
        self.server.page = True
        self.assert_fails("web page")
        self.server.page, self.server.content = False, b"\n <!DOCTYPE html><title>Sign in</title>"
        self.assert_fails("web page")
        self.assertEqual(len(self.server.requests), 2, "a web page is not worth another attempt")

    def test_a_refusal_is_final_and_a_passing_failure_is_not(self):
        self.server.statuses = [404]
        self.assert_fails("404 Not Found")
        self.assertEqual(len(self.server.requests), 1)
        self.server.statuses = [503, 429]
        self.download()
        self.assert_whole()

    def test_a_server_that_is_not_there_fails_at_once(self):
        for url in ("http://127.0.0.1:1/file.bin", "http://no-such-host.invalid/file.bin"):
            with self.subTest(url), mock.patch.dict(os.environ, {"no_proxy": "*"}):
                self.assert_fails("cannot fetch", url=url)

    def test_addresses_of_this_machine_work(self):
        original = self.folder / "original.bin"
        original.write_bytes(CONTENT)
        self.download(url=original.as_uri(), sha256=SHA256)
        self.assert_whole()
        self.dest.unlink()
        self.assert_fails("No such file", url=(self.folder / "none.bin").as_uri())

    def test_the_proxy_of_the_environment_is_asked(self):
        proxy = f"http://127.0.0.1:{self.server.server_port}"
        with mock.patch.dict(os.environ, {"http_proxy": proxy, "no_proxy": "", "NO_PROXY": ""}):
            self.download(url="http://far-away.invalid/file.bin")
        self.assertEqual(self.server.requests[0][0], "http://far-away.invalid/file.bin")
        self.assert_whole()

    def test_two_downloads_at_once_fetch_the_file_once(self):
        with ThreadPoolExecutor(4) as pool:
            paths = list(pool.map(lambda _: self.download(), range(4)))
        self.assertEqual(paths, [self.dest] * 4)
        self.assertEqual(len(self.server.requests), 1)
        self.assert_whole()

    def test_progress_rises_to_the_whole(self):
        seen: list[tuple[int, int | None]] = []
        self.server.cuts = [1_500_000]
        self.download(progress=lambda done, total: seen.append((done, total)))
        self.assertEqual(seen, sorted(seen))
        self.assertEqual(seen[-1], (len(CONTENT), len(CONTENT)))

    def test_the_progress_line_says_share_and_rate(self):
        out = io.StringIO()
        with contextlib.redirect_stderr(out):
            self.download(progress=DownloadProgress("file.bin"))
        self.assertRegex(out.getvalue(), r"^file\.bin: 3 MB of 3 MB \(100 %\), .*/s\n$")


class DatasetNames(unittest.TestCase):
    def run_fetch(self, cache: str, *arguments: str) -> subprocess.CompletedProcess:
        environment = os.environ | {
            "EPD_CACHE": cache,
            "https_proxy": "http://127.0.0.1:1",
            "no_proxy": "",
            "NO_PROXY": "",
        }
        command = [sys.executable, ROOT / "models/fetch.py", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    def test_without_network_one_line_names_the_address_and_the_folder(self):
        with tempfile.TemporaryDirectory() as cache:
            result = self.run_fetch(cache, "cifar10")
            self.assertEqual(result.returncode, 1)
            self.assertEqual(result.stderr.count("\n"), 1)
            self.assertIn(registry.find("cifar10").files[0].url, result.stderr)
            self.assertIn(f"{cache}/checkpoints/cifar10", result.stderr)

    def test_files_put_in_place_by_hand_are_taken(self):
        with tempfile.TemporaryDirectory() as cache:
            folder = Path(cache) / "checkpoints/imagenet256"
            folder.mkdir(parents=True)
            for file in registry.find("imagenet256").files:
                (folder / file.name).write_bytes(b"x")
            result = self.run_fetch(cache, "imagenet256")
            self.assertEqual(
                [Path(line).name for line in result.stdout.splitlines()],
                ["256x256_diffusion.pt", "256x256_classifier.pt"],
            )

    def test_statistics_without_an_address_name_their_page_and_folder(self):
        with tempfile.TemporaryDirectory() as cache:
            result = self.run_fetch(cache, "lsun_bedroom", "statistics")
            self.assertEqual(result.returncode, 1)
            self.assertIn(registry.find("lsun_bedroom").statistics["page"], result.stderr)
            self.assertIn(f"{cache}/statistics", result.stderr)

    def test_published_statistics_are_fetched_and_checked(self):
        """By launch.sh in a tree of its own, whose registry names a file."""
        with tempfile.TemporaryDirectory() as temporary:
            root = Path(temporary)
            shutil.copytree(
                ROOT / "models", root / "models", ignore=shutil.ignore_patterns("demo", "vocabulary", "__pycache__")
            )
            shutil.copy(ROOT / "launch.sh", root)
            published = root / "published.npz"
            numpy.savez(published, mu=numpy.zeros(2), sigma=numpy.eye(2))
            names = json.loads((ROOT / "models/registry.json").read_text())
            names["cifar10"]["statistics"]["url"] = published.as_uri()
            (root / "models/registry.json").write_text(json.dumps(names))
            cache = root / "cache"

            def launch(name: str) -> subprocess.CompletedProcess:
                command = [root / "launch.sh", "fetch", name, "statistics"]
                environment = os.environ | {
                    "EPD_CACHE": str(cache),
                    "EPD_PYTHON": sys.executable,
                    "PYTHONDONTWRITEBYTECODE": "1",
                }
                return subprocess.run(command, env=environment, capture_output=True, text=True)

            done = launch("cifar10")
            self.assertEqual(done.stdout, f"{cache}/statistics/cifar10-32x32.npz\n", done.stderr)
            done = launch("nothing")
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertIn("unknown dataset name 'nothing'", done.stderr)
            for content in (b"<html>", published.read_bytes()[:-100]):
                (cache / "statistics/cifar10-32x32.npz").write_bytes(content)
                done = launch("cifar10")
                self.assertEqual((done.returncode, done.stdout), (1, ""))
                self.assertIn("damaged", done.stderr)

    def test_a_name_that_has_no_such_file_is_an_error(self):
        with self.assertRaisesRegex(ValueError, "cifar10 has no published captions"):
            fetch.captions("cifar10")
        with self.assertRaisesRegex(ValueError, "unknown dataset name"):
            fetch.checkpoints("nothing")


if __name__ == "__main__":
    unittest.main()
