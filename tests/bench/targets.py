"""All benchmarks in one table: each program beside what people use, as ratios within one run. About 15 minutes.

    python tests/bench/targets.py [--scipy OTHER_PYTHON ...] [--train_before PROGRAM] [--only WORD]

A row needs what its baseline is made of: pytorch-fid, torch-fidelity, SciPy, onnxruntime (with onnx and onnxscript);
what is absent is left out, with the reason. The demo model is compiled for it in a temporary folder (g++, 2 minutes).
--scipy adds Pythons with other versions of SciPy, --train_before a `train` built from other sources. --only takes the
rows whose names hold the word.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BENCH = Path(__file__).resolve().parent


def result_of(command, threads=1):
    """The last line of what a benchmark prints."""
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
    done = subprocess.run([str(word) for word in command], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["failed"])[-1])
    return done.stdout


def one(name, *arguments, threads=1, python=sys.executable):
    command = [python, BENCH / name, "--threads", threads, *arguments]
    record = json.loads(result_of(command, threads).splitlines()[-1])
    return f"{record['ratio']:.2f}" + (f" (CPU time {record['cpu_ratio']:.2f})" if "cpu_ratio" in record else "")


def engines(model):
    """By the name of the engine, its speed over the Python loop around the model file."""
    table = result_of([sys.executable, BENCH / "bench_engines.py", "--model", model, "--images", 128]).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table if line.startswith("| ")]
    return {row[0]: float(row[2]) for row in cells[1:]}


def train_seconds(program, folder, busy):
    """Wall seconds of the demo's training, of 32 images, beside so many other busy processes."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    command = [program, "--config", ROOT / "exp/presets/train-demo.json", "--device", "cpu", "--total_kimg", "0.032"]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    start = time.perf_counter()
    try:
        subprocess.run(
            [*command, "--outdir", folder, "--quiet"], env=environment, check=True, capture_output=True, cwd=ROOT
        )
        return time.perf_counter() - start
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def train_ratio(before, busy):
    with tempfile.TemporaryDirectory() as folder:
        theirs, ours = train_seconds(before, folder, busy), train_seconds(ROOT / "build/bin/train", folder, busy)
    return f"{theirs / ours:.2f}"


def compiled_model(folder):
    sys.path.insert(0, str(ROOT / "models"))
    import optimize

    model = Path(shutil.copy(ROOT / "models/demo/denoiser.ts", folder))
    for precision in ("fp32", "bf16"):
        optimize.optimize(model, precision, device="cpu")
    return model


def rows_of(options, folder):
    """(name, baseline, target, run() -> ratio, as text)."""
    found = {}

    def engine(name, over="Python loop, TorchScript fp32"):
        if not found:
            found.update(engines(compiled_model(folder)))
        return f"{found[name] / found[over]:.2f}"

    yield "sample fp32, 2 threads", "Python loop", 2.0, lambda: one("bench_sample.py", threads=2)
    yield "sample fp32, 1 thread", "Python loop", 1.6, lambda: one("bench_sample.py")
    yield "sample fp32 compiled, 1 thread", "Python loop", 1.6, lambda: engine("sample, compiled fp32")
    onnx = "Python loop, onnxruntime fp32"
    yield "sample fp32 compiled, 1 thread ", "onnxruntime", 1.1, lambda: engine("sample, compiled fp32", onnx)
    yield "sample bf16 compiled, 1 thread", "Python loop, fp32", 3.2, lambda: engine("sample, compiled bf16")
    fid_ref = lambda against, *more: one("bench_fid_ref.py", "--against", against, "--repeats", 2, *more)
    yield "fid ref, Inception, 320 images", "pytorch-fid", 3.0, lambda: fid_ref("pytorch-fid", "--images", 320)
    yield "fid ref, Inception, 320 images ", "onnxruntime", 1.1, lambda: fid_ref("onnxruntime", "--images", 320)
    yield "KID, 5,000 images", "torch-fidelity", 1.5, lambda: one("bench_kid.py", "--repeats", 2)
    for python in [sys.executable, *options.scipy]:
        version = result_of([python, "-c", "import scipy; print(scipy.__version__)"]).strip()
        for condition in (1e4, 1e7):
            arguments = ("--condition", condition, "--repeats", 1, "--python_with_torch", sys.executable)
            run = lambda python=python, arguments=arguments: one("bench_frechet.py", *arguments, python=python)
            name = f"distance, condition {'1e7' if condition < 1e5 else '1e10'}"
            yield name, f"SciPy {version}", 7 if version >= "1.17" else 3, run
    if options.train_before:
        yield "train, demo", "before", 1.8, lambda: train_ratio(options.train_before, 0)
        yield "train, demo, beside 2 busy loops", "before", 5, lambda: train_ratio(options.train_before, 2)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scipy", nargs="*", default=[], metavar="PYTHON")
    parser.add_argument("--train_before", metavar="PROGRAM")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    start = time.perf_counter()
    print("| benchmark | baseline | speed-up | target | seconds so far |\n|---|---|---:|---:|---:|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, baseline, target, run in rows_of(options, folder):
            if options.only not in name:
                continue
            try:
                ratio = run()
            except Exception as error:  # one row must not cost the others
                ratio = f"left out: {error}"
            seconds = time.perf_counter() - start
            print(f"| {name.strip()} | {baseline} | {ratio} | {target} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
