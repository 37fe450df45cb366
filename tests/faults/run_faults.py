"""Runs the programs with one failing call each and checks that nothing is lost.

run_faults.py --bin build/bin --preload libepd_fault.so --models models/demo [--sample 200 | --all] [--only NAME...]

After a fault the program ends with a known exit code, says one error line or none, and leaves no file under a final
name but whole ones: those of an undisturbed run, or earlier states. The same command again then gives the undisturbed
run's bytes.
"""

import argparse
import collections
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
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
    "link": ["EIO", "ENOSPC", "kill"],
    "rename": ["EIO", "ENOSPC", "kill"],
    "mmap": ["ENOMEM", "kill"],
    "mkdir": ["EIO", "ENOSPC", "kill"],
    "unlink": ["EIO", "kill"],
    "close": ["EIO", "kill"],
    "memory": ["ENOMEM"],
}
CODES = {0, 1, 2, 130, 143, -9}
MEMORY_POINTS = 40  # allocations are many: so many of them, evenly spread
LOGS = {"log.txt", "stats.jsonl"}  # are added to, line by line; a line that was cut is dropped by --resume
WITH_NETWORKS = {"ref", "calc", "sample-png", "sample-zip", "train", "train-new", "compare"}
# How often each command stands in a sample: the cheapest most.
WEIGHTS = {
    **{"worker-prepare": 60, "worker-draw": 60, "worker-learn": 60},
    **{"prepare": 3, "ref": 3, "calc": 3, "sample-png": 3, "sample-zip": 3, "train": 1},
    **{"train-new": 1, "compare": 1, "export": 0},
}


def commands(bin_dir, models, root):
    """Each command's words; inputs lie in root/in, results in root/out."""
    data, out = root / "in", root / "out"
    common = "--device cpu --threads 1"
    detector = f"--detector {data}/features.ts"
    student = f"--dataset_name demo --model_path {data}/denoiser.ts"
    sample = (
        f"{bin_dir}/sample {common} --model_path {data}/denoiser.ts --solver euler --num_steps 2 --seeds 0-2 --chunk 1 "
        f"--outdir {out}/images"
    )
    train = (
        f"{bin_dir}/train {common} {student} --num_steps 3 --M 1 --batch 2 --total_kimg 0.004 --tick 0.002 "
        f"--dump 1 --val_images 0 --loss_metric l2 --outdir {out}/run --resume auto"
    )
    images = f"{data}/images.zip"
    lines = {
        **{f"worker-{work}": f"{bin_dir}/fault_worker {work} {images} {out}" for work in ("prepare", "draw", "learn")},
        "prepare": f"{bin_dir}/fid prepare {common} --source {images} --dest {out}/set.zip --json {out}/set.json",
        "ref": f"{bin_dir}/fid ref {common} {detector} --data {images} --dest {out}/ref.npz",
        "calc": f"{bin_dir}/fid calc {common} {detector} --images {images} --ref {data}/ref.npz "
        f"--json {out}/score.json --report {out}/report.html",
        "sample-png": f"{sample} --format png",
        "sample-zip": f"{sample} --format zip",
        "train": f"{train} --nosubdir True",
        "train-new": train,
        "compare": f"{bin_dir}/compare {common} {student} --nfe 2 --solvers euler --seeds 0-1 --outdir {out}/compare",
        "export": f"{sys.executable} {models.parent}/export.py cifar10 --checkpoint {data}/edm.pkl --dest {out}/edm.ts",
    }
    return {name: line.split() for name, line in lines.items()}


def make_inputs(root, models, bin_dir):
    data = root / "in"
    data.mkdir(parents=True)
    for name in ("denoiser.ts", "features.ts", "predictor.json"):
        shutil.copy(models / name, data / name)
    with zipfile.ZipFile(models / "emoji32.zip") as source, zipfile.ZipFile(data / "images.zip", "w") as few:
        for name in [n for n in source.namelist() if n.endswith(".png")][:6]:
            few.writestr(name, source.read(name))
    line = f"{bin_dir}/fid ref --data {data}/images.zip --dest {data}/ref.npz --detector {data}/features.ts --quiet"
    subprocess.run(line.split(), check=True, stdout=subprocess.DEVNULL)


def files_of(folder):
    """Each result's hash by its name; unfinished files have names of their own and are left out."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".epd-tmp-")
    }


def is_whole(path):
    """Whether a file whose bytes differ from run to run, or from state to state, is complete."""
    if path.name in LOGS:
        return True
    data = path.read_bytes()
    if path.name.startswith("state"):
        digest, _, body = data.partition(b"\n")
        return digest.decode(errors="replace") == hashlib.sha256(body).hexdigest()
    if path.suffix == ".json":
        try:
            return json.loads(data) is not None
        except ValueError:
            return False
    return data.endswith((b"</html>\n", b"</svg>\n", b"|\n")) or (path.suffix == ".lock" and not data)


class Bench:
    def __init__(self, root, bin_dir, models, library):
        self.root, self.preload, self.log = root, library, root / "fault.log"
        self.commands = commands(bin_dir, models, root)
        self.undisturbed, self.seconds, self.names = {}, {}, {}

    def all_names(self):
        """Every file and folder of the results, the hidden ones too."""
        return {str(path.relative_to(self.root / "out")) for path in (self.root / "out").rglob("*")}

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
            begin = time.monotonic()
            done = self.run(name)
            self.seconds[name] = time.monotonic() - begin
            if done.returncode != 0:
                sys.exit(f"{name} fails undisturbed: {done.stderr.decode()}")
            runs.append(files_of(self.root / "out"))
            self.names[name] = self.all_names()
        self.undisturbed[name] = {
            path: digest
            for path, digest in runs[0].items()
            if runs[1].get(path) == digest and not path.endswith("state-previous.bin")  # any state before is fine
        }

    def counts(self, name):
        """How many calls of each kind the command makes."""
        self.clear()
        self.run(name, "none", 0, "none")
        return dict(zip(ACTIONS, map(int, self.log.read_text().split()[1:])))

    def state(self, name):
        """What is missing of the undisturbed results, and what is there but neither of them nor whole."""
        found = files_of(self.root / "out")
        same = self.undisturbed[name]
        missing = [path for path, digest in same.items() if found.get(path) != digest]
        partial = [
            path
            for path, digest in found.items()
            # Names with a dot are a run's own while it works: a lock, images on their way to an archive.
            if not any(part.startswith(".") for part in pathlib.Path(path).parts)
            and same.get(path) != digest
            and not is_whole(self.root / "out" / path)
        ]
        return missing, partial

    def inject(self, name, call, number, action):
        """What became of one fault, and what is wrong with that (nothing, if all is well)."""
        self.clear()
        done = self.run(name, call, number, action)
        said = done.stderr.decode(errors="replace")
        if not self.log.exists() or self.log.read_text().split()[0] != "1":
            return "not reached", None
        # An allocation that fails inside LibTorch's own code may end the process there, as a kill would.
        crashed = call == "memory" and name in WITH_NETWORKS and done.returncode in (-signal.SIGSEGV, -signal.SIGABRT)
        if not crashed and (done.returncode not in CODES or (done.returncode == -9) != (action == "kill")):
            return "lost", f"exit code {done.returncode}: {said[-300:]}"
        errors = sum("error:" in line for line in said.splitlines()) if name != "export" else 1
        if done.returncode in (1, 2) and errors != 1:
            return "lost", f"{errors} error lines: {said[-500:]}"
        missing, partial = self.state(name)
        if partial:
            return "lost", f"partial files: {partial}"
        if done.returncode == 0:
            return ("lost", f"exit code 0, but {missing} differ") if missing else ("unharmed", None)
        again = self.run(name)
        if again.returncode != 0:
            return "lost", f"again: exit code {again.returncode}: {again.stderr.decode(errors='replace')[-300:]}"
        lost, partial = self.state(name)
        if lost or partial:
            return "lost", f"again: {lost} {partial} differ (missing before: {missing})"
        if litter := sorted(self.all_names() - self.names[name]):
            return "lost", f"again: {litter} are left"
        return "crashed" if crashed else "recovered", None


def all_faults(bench, names, kinds):
    for name in names:
        bench.measure(name)
        counts = bench.counts(name)
        print(f"{name}: {bench.seconds[name]:.2f} s, calls {counts}", flush=True)
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
    parser.add_argument(
        "--only", nargs="*", choices=WEIGHTS, default=[name for name, weight in WEIGHTS.items() if weight]
    )
    parser.add_argument("--calls", nargs="*", default=list(ACTIONS), help="kinds of calls that fail")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no fault after so long")
    parser.add_argument("--verbose", action="store_true", help="a line for each fault")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="epd-faults-") as folder:
        root = pathlib.Path(folder).resolve()
        make_inputs(root, arguments.models.resolve(), arguments.bin.resolve())
        bench = Bench(root, arguments.bin.resolve(), arguments.models.resolve(), arguments.preload.resolve())
        faults = list(all_faults(bench, arguments.only, arguments.calls))
        if not arguments.all and len(faults) > arguments.sample:
            # Weighted draw without replacement (Efraimidis and Spirakis): the largest u^(1/weight).
            rng = random.Random(arguments.seed)
            calls = collections.Counter((name, call) for name, call, *_ in faults)
            keyed = [(rng.random() ** (calls[fault[:2]] / max(WEIGHTS[fault[0]], 1)), fault) for fault in faults]
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
            f"{outcomes['crashed']} ended the process and were recovered, {outcomes['unharmed']} without effect, "
            f"{outcomes['lost']} lost; {outcomes['not reached']} calls were not reached"
        )
        sys.exit(1 if outcomes["lost"] or not injected else 0)


if __name__ == "__main__":
    main()
