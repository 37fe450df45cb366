"""Runs the programs with one failing call each and checks that nothing is lost.

run_faults.py --bin build/bin --preload libepd_fault.so --models models/demo [--sample 200 | --all] [--only NAME]
"""

import argparse
import collections
import hashlib
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile

ACTIONS = {
    "open": ["EMFILE", "EIO", "ENOSPC", "kill", "slow"],
    "read": ["EIO", "short", "kill", "slow"],
    "write": ["ENOSPC", "EIO", "short", "kill", "slow"],
    "fsync": ["EIO", "ENOSPC", "kill"],
    "rename": ["EIO", "ENOSPC", "kill"],
    "mmap": ["ENOMEM", "kill"],
    "memory": ["ENOMEM"],
}
CODES = {0, 1, 2, 130, 143, -9}
MEMORY_POINTS = 40  # allocations are many: so many of them, evenly spread
# How often each command stands in a sample: the cheapest most.
WEIGHTS = {"prepare": 8, "ref": 4, "calc": 4, "sample-png": 3, "sample-zip": 3, "train": 1, "compare": 1}


def commands(bin_dir, root):
    """Each command's words; inputs lie in root/in, results in root/out."""
    fid, data, out = str(bin_dir / "fid"), root / "in", root / "out"
    common = ["--device", "cpu", "--threads", "1"]
    detector = ["--detector", f"{data}/features.ts"]
    sample = [
        str(bin_dir / "sample"),
        *common,
        "--model_path",
        f"{data}/denoiser.ts",
        "--solver",
        "euler",
        "--num_steps",
        "2",
        "--seeds",
        "0-2",
        "--chunk",
        "1",
        "--outdir",
        f"{out}/images",
    ]
    student = ["--dataset_name", "demo", "--model_path", f"{data}/denoiser.ts"]
    return {
        "prepare": [
            fid,
            "prepare",
            *common,
            "--source",
            f"{data}/images.zip",
            "--dest",
            f"{out}/set.zip",
            "--json",
            f"{out}/set.json",
        ],
        "ref": [fid, "ref", *common, *detector, "--data", f"{data}/images.zip", "--dest", f"{out}/ref.npz"],
        "calc": [
            fid,
            "calc",
            *common,
            *detector,
            "--images",
            f"{data}/images.zip",
            "--ref",
            f"{data}/ref.npz",
            "--json",
            f"{out}/score.json",
            "--report",
            f"{out}/report.html",
        ],
        "sample-png": [*sample, "--format", "png"],
        "sample-zip": [*sample, "--format", "zip"],
        "train": [
            str(bin_dir / "train"),
            *common,
            *student,
            "--num_steps",
            "3",
            "--M",
            "1",
            "--batch",
            "2",
            "--total_kimg",
            "0.004",
            "--val_images",
            "0",
            "--loss_metric",
            "l2",
            "--outdir",
            f"{out}/run",
        ],
        "compare": [
            str(bin_dir / "compare"),
            *common,
            *student,
            "--nfe",
            "2",
            "--solvers",
            "euler",
            "--seeds",
            "0-1",
            "--outdir",
            f"{out}/compare",
        ],
    }


def make_inputs(root, models, bin_dir):
    data = root / "in"
    data.mkdir(parents=True)
    for name in ("denoiser.ts", "features.ts", "predictor.json"):
        shutil.copy(models / name, data / name)
    with zipfile.ZipFile(models / "emoji32.zip") as source, zipfile.ZipFile(data / "images.zip", "w") as few:
        for name in [n for n in source.namelist() if n.endswith(".png")][:6]:
            few.writestr(name, source.read(name))
    subprocess.run(
        [
            str(bin_dir / "fid"),
            "ref",
            "--data",
            f"{data}/images.zip",
            "--dest",
            f"{data}/ref.npz",
            "--detector",
            f"{data}/features.ts",
            "--quiet",
        ],
        check=True,
    )


def files_of(folder):
    """Each result's hash by its name; unfinished files have names of their own and are left out."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".epd-tmp-")
    }


class Bench:
    def __init__(self, root, bin_dir, library):
        self.root, self.preload, self.log = root, library, root / "fault.log"
        self.commands = commands(bin_dir, root)
        self.undisturbed = {}

    def clear(self):
        shutil.rmtree(self.root / "out", ignore_errors=True)
        (self.root / "out").mkdir()

    def run(self, name, call="", number=0, action=""):
        environment = dict(os.environ, OMP_NUM_THREADS="1", EPD_CACHE=str(self.root / "cache"))
        if call:
            environment |= {
                "LD_PRELOAD": str(self.preload),
                "EPD_FAULT_CALL": call,
                "EPD_FAULT_ACTION": action,
                "EPD_FAULT_NUMBER": str(number),
                "EPD_FAULT_FOLDER": str(self.root) + "/",
                "EPD_FAULT_LOG": str(self.log),
            }
        self.log.unlink(missing_ok=True)
        return subprocess.run(self.commands[name], env=environment, capture_output=True, timeout=300)

    def measure(self, name):
        """The undisturbed results (those that two runs agree on: times of day are not compared), and the calls."""
        runs = []
        for _ in range(2):
            self.clear()
            done = self.run(name)
            if done.returncode != 0:
                sys.exit(f"{name} fails undisturbed: {done.stderr.decode()}")
            runs.append(files_of(self.root / "out"))
        self.undisturbed[name] = {path: digest for path, digest in runs[0].items() if runs[1].get(path) == digest}

    def counts(self, name):
        """How many calls of each kind the command makes."""
        self.clear()
        self.run(name, "none", 0, "none")
        return dict(zip(ACTIONS, map(int, self.log.read_text().split()[1:])))

    def differences(self, name):
        found = files_of(self.root / "out")
        return [path for path, digest in self.undisturbed[name].items() if found.get(path) != digest]

    def inject(self, name, call, number, action):
        """What became of one fault, and what is wrong with that (nothing, if all is well)."""
        self.clear()
        done = self.run(name, call, number, action)
        if not self.log.exists() or self.log.read_text().split()[0] != "1":
            return "not reached", None
        error_lines = [line for line in done.stderr.decode(errors="replace").splitlines() if "error:" in line]
        if done.returncode not in CODES or (done.returncode == -9) != (action == "kill"):
            return "lost", f"exit code {done.returncode}: {done.stderr.decode(errors='replace')[-300:]}"
        if done.returncode in (1, 2) and len(error_lines) != 1:
            return "lost", f"{len(error_lines)} error lines: {done.stderr.decode(errors='replace')[-500:]}"
        different = self.differences(name)
        present = [path for path in different if (self.root / "out" / path).exists()]
        if done.returncode == 0 and different:
            return "lost", f"exit code 0, but {different} differ"
        again = self.run(name)
        if again.returncode != 0:
            return "lost", f"again: exit code {again.returncode}: {again.stderr.decode(errors='replace')[-300:]}"
        if self.differences(name):
            return "lost", f"again: {self.differences(name)} differ (before: {present})"
        return ("unharmed" if done.returncode == 0 else "recovered"), None


def all_faults(bench, names, kinds):
    for name in names:
        bench.measure(name)
        counts = bench.counts(name)
        print(f"{name}: calls {counts}", flush=True)
        for call, actions in ACTIONS.items():
            if call not in kinds:
                continue
            total = counts[call]
            step = max(1, total // MEMORY_POINTS) if call == "memory" else 1
            yield from ((name, call, number, action) for number in range(1, total + 1, step) for action in actions)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    parser.add_argument("--preload", type=pathlib.Path, required=True)
    parser.add_argument("--models", type=pathlib.Path, required=True)
    parser.add_argument("--sample", type=int, default=200)
    parser.add_argument("--all", action="store_true", default=os.environ.get("EPD_FAULTS") == "all")
    parser.add_argument("--only", nargs="*", default=list(WEIGHTS))
    parser.add_argument("--calls", nargs="*", default=list(ACTIONS), help="kinds of calls that fail")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no fault after so long")
    parser.add_argument("--verbose", action="store_true", help="a line for each fault")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="epd-faults-") as folder:
        root = pathlib.Path(folder).resolve()
        make_inputs(root, arguments.models.resolve(), arguments.bin.resolve())
        bench = Bench(root, arguments.bin.resolve(), arguments.preload.resolve())
        faults = list(all_faults(bench, arguments.only, arguments.calls))
        if not arguments.all and len(faults) > arguments.sample:
            # Weighted draw without replacement (Efraimidis and Spirakis): the largest u^(1/weight).
            rng = random.Random(arguments.seed)
            calls = collections.Counter((name, call) for name, call, *_ in faults)
            keyed = [(rng.random() ** (calls[fault[:2]] / WEIGHTS[fault[0]]), fault) for fault in faults]
            faults = sorted(fault for _, fault in sorted(keyed)[-arguments.sample :])
        outcomes = collections.Counter()
        if arguments.seconds < float("inf"):
            random.Random(arguments.seed).shuffle(faults)
        end = time.monotonic() + arguments.seconds
        for fault in faults:
            if time.monotonic() > end:
                break
            outcome, complaint = bench.inject(*fault)
            outcomes[outcome] += 1
            if arguments.verbose:
                print(*fault, "-", outcome, flush=True)
            if complaint:
                print("LOST", *fault, "-", complaint, flush=True)
        injected = sum(outcomes.values()) - outcomes["not reached"]
        print(
            f"{injected} faults injected: {outcomes['recovered']} detected and recovered, "
            f"{outcomes['unharmed']} without effect, {outcomes['lost']} lost; "
            f"{outcomes['not reached']} calls were not reached"
        )
        sys.exit(1 if outcomes["lost"] or not injected else 0)


if __name__ == "__main__":
    main()
