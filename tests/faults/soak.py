"""Runs the programs long and watches what they hold: soak.py --bin build/bin [--images 100000] [--minutes 60]

`sample` draws the images with a tiny model, `fid ref` reads them; then `train` is killed at random times and started
again, until the time is up. Memory and open files are read from /proc twice a second: neither may grow once a run is
under way. Everything is done twice, and the bytes must be equal; the training that was killed must end like one that
was not. The last line is PASS or FAIL with what failed; the exit code is 0 or 1.
"""

import argparse
import hashlib
import os
import pathlib
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile


def watched(command):
    """Runs the command; (memory in MiB, open files) at each look, and the seconds."""
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    begin = time.monotonic()
    child = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    looks = []
    while child.poll() is None:
        try:
            pages = int(pathlib.Path(f"/proc/{child.pid}/statm").read_text().split()[1])
            looks.append((pages * os.sysconf("SC_PAGE_SIZE") / 2**20, len(os.listdir(f"/proc/{child.pid}/fd"))))
        except (FileNotFoundError, ProcessLookupError):
            pass
        time.sleep(0.5)
    if child.returncode != 0:
        sys.exit(f"{command} ended with {child.returncode}")
    return looks, time.monotonic() - begin


def hash_of(*paths):
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def hash_of_statistics(path):
    """The numbers alone: where they come from differs."""
    with zipfile.ZipFile(path) as arrays:
        return hashlib.sha256(arrays.read("mu.npy") + arrays.read("sigma.npy")).hexdigest()[:16]


def growth(looks):
    """Memory and open files that a run usually holds in its second half, beyond those of its second quarter."""
    half, quarter = looks[len(looks) // 2 :], looks[len(looks) // 4 : len(looks) // 2]
    return [statistics.median_low(x[i] for x in half) - statistics.median_low(x[i] for x in quarter) for i in (0, 1)]


def report(failures, name, looks, seconds, digest):
    memory, files = growth(looks)
    peak = max(look[0] for look in looks)
    print(
        f"{name}: {seconds:.0f} s, peak {peak:.0f} MiB, second half {memory:+.0f} MiB, {files:+d} files, {digest}",
        flush=True,
    )
    if memory >= 0.05 * peak:
        failures.append(f"{name} grew by {memory:.0f} MiB")
    if files > 0:
        failures.append(f"{name} left {files} files open")


def killed_training(command, folder, seconds, rng):
    """Starts the command again and again until it ends by itself; how often it was killed."""
    kills = 0
    while True:
        child = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            child.wait(timeout=rng.uniform(0.1, seconds))
        except subprocess.TimeoutExpired:
            child.send_signal(rng.choice([signal.SIGKILL, signal.SIGTERM]))
            child.wait()
            kills += 1
            continue
        if child.returncode != 0:
            sys.exit(f"{command} ended with {child.returncode}")
        return kills, result_of(folder)


def result_of(folder):
    """The hash of the one run's predictor; what else there is."""
    names = sorted(path.name for path in folder.iterdir())
    return hash_of(folder / names[0] / "predictor.json") if len(names) == 1 else names


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    parser.add_argument("--model", type=pathlib.Path, required=True, help="a tiny model, and its features.ts beside it")
    parser.add_argument("--images", type=int, default=100000)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seconds", type=float, default=12, help="the longest time before a kill")
    parser.add_argument("--kimg", type=float, default=0.2)
    arguments = parser.parse_args()
    rng, failures = random.Random(1), []
    common = ["--device", "cpu", "--threads", "1", "--quiet"]
    model = ["--model_path", str(arguments.model)]
    with tempfile.TemporaryDirectory(prefix="epd-soak-") as folder:
        root = pathlib.Path(folder)
        sample = [f"{arguments.bin}/sample", *common, *model, "--solver", "euler", "--num_steps", "2", "--batch", "256"]
        ref = [f"{arguments.bin}/fid", "ref", *common, "--detector", str(arguments.model.parent / "features.ts")]
        hashes = set()
        for form in ("png", "zip"):
            out = root / form
            seeds = ["--seeds", f"0-{arguments.images - 1}", "--format", form, "--outdir", str(out)]
            looks = watched([*sample, *seeds])
            report(failures, f"sample {form}", *looks, hash_of(*sorted(out.rglob(f"*.{form}"))))
            data = out if form == "png" else next(out.glob("*.zip"))
            dest = root / f"{form}.npz"
            looks = watched([*ref, "--data", str(data), "--dest", str(dest)])
            report(failures, f"fid ref {form}", *looks, hash_of_statistics(dest))
            hashes.add(hash_of_statistics(dest))
            shutil.rmtree(out)
        if len(hashes) > 1:
            failures.append("the statistics of png and zip differ")
        train = [f"{arguments.bin}/train", *common, *model, "--num_steps", "3", "--M", "1", "--batch", "8"]
        train += ["--total_kimg", str(arguments.kimg), "--tick", "0.02", "--val_images", "0", "--loss_metric", "l2"]
        train += ["--resume", "auto", "--outdir"]
        looks, seconds = watched([*train, str(root / "whole")])
        truth = result_of(root / "whole")
        report(failures, "train", looks, seconds, truth)
        end = time.monotonic() + 60 * arguments.minutes
        runs = kills = wrong = 0
        while time.monotonic() < end:
            run = root / f"run{runs}"
            more, digest = killed_training([*train, str(run)], run, arguments.seconds, rng)
            runs, kills, wrong = runs + 1, kills + more, wrong + (digest != truth)
            shutil.rmtree(run)
        print(f"train: {runs} runs, killed {kills} times; {wrong} ended with another predictor")
        if wrong:
            failures.append(f"{wrong} of {runs} killed trainings")
    print("FAIL: " + "; ".join(failures) if failures else "PASS")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
