"""How fast the distance between statistics of 2048 features is beside SciPy's matrix square root.

    python tests/bench/bench_frechet.py [--fid build/bin/fid] [--images 3000]

The statistics are those of a random network with 2048 features on random pictures; fewer --images than features give
singular covariances. `fid calc` tells its own seconds for the distance (its record's seconds_scores). The other side is
what pytorch-fid computes, trace(sqrtm(sigma sigma_ref)), by the SciPy of this Python (1.15.3 and 1.17.1 are a
factor of two apart): both with --threads threads, in turn, --repeats times; the best counts. Prints a line of JSON.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FEATURES, SIDE = 2048, 8


def make_detector(path, python, condition=0):
    """In a Python with torch: a TorchScript network whose features have full rank; their covariance's condition number
    is some 2000, times `condition` where given."""
    code = f"""
import torch
class Random(torch.nn.Module):
    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(3 * {SIDE * SIDE}, {FEATURES}, generator=generator)
        self.register_buffer("weight", weight / torch.arange(1, {FEATURES + 1}) ** 0.3 / 8)
        self.register_buffer("mix", torch.eye({FEATURES}))
        if {condition}:
            rotation = torch.linalg.qr(torch.randn({FEATURES}, {FEATURES}, generator=generator))[0]
            self.mix = torch.logspace(0, -0.5 * {math.log10(condition or 1)}, {FEATURES}).unsqueeze(1) * rotation
    def forward(self, images):
        x = images.to(torch.float32).flatten(1)[:, :{3 * SIDE * SIDE}] / 128 - 1
        return torch.relu(x @ self.weight) @ self.mix
torch.jit.script(Random()).save({str(path)!r})
"""
    script = path.with_suffix(".py")  # TorchScript wants to read the source
    script.write_text(code)
    subprocess.run([python, script], check=True)


def make_images(folder, count):
    import numpy

    random = numpy.random.RandomState(0)
    for name, low in (("generated", 0), ("real", 30)):
        images = random.randint(low, 256, (count, SIDE, SIDE, 3)).astype("u1")
        numpy.savez(folder / f"{name}.npz", arr_0=images)


def run_fid(options, folder, *arguments):
    """The record of a `fid calc`."""
    record = folder / "record.json"
    command = [options.fid, *arguments, "--detector", folder / "network.ts", "--device", "cpu", "--quiet"]
    if arguments[0] == "calc":
        command += ["--json", record]
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
    return json.loads(record.read_text()) if arguments[0] == "calc" else None


def options_of(description, images, **more):
    """The options of the benchmarks of scores. What is imported after this uses as many threads as they say."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fid", default=str(ROOT / "build/bin/fid"))
    parser.add_argument("--images", type=int, default=images)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    for name, settings in more.items():
        parser.add_argument(f"--{name}", **settings)
    options = parser.parse_args()
    os.environ.update({name: str(options.threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")})
    return options


def make_statistics(options, folder, python, *more, condition=0):
    """The files of statistics of the generated and of the real images."""
    make_detector(folder / "network.ts", python, condition)
    make_images(folder, options.images)
    paths = [folder / f"{name}_statistics.npz" for name in ("generated", "real")]
    for name, path in zip(("generated", "real"), paths):
        run_fid(options, folder, "ref", "--data", folder / f"{name}.npz", "--dest", path, *more)
    return paths


def score(options, folder, *more):
    """The record of the generated images against the real ones' statistics."""
    reference = folder / "real_statistics.npz"
    return run_fid(options, folder, "calc", "--images", folder / "generated.npz", "--ref", reference, *more)


def distance(numpy, linalg, a, b):
    """As pytorch-fid computes it."""
    product = a["sigma"] @ b["sigma"]
    root = linalg.sqrtm(product)
    if not numpy.isfinite(root).all():
        offset = numpy.eye(FEATURES) * 1e-6
        root = linalg.sqrtm((a["sigma"] + offset) @ (b["sigma"] + offset))
    gap = a["mu"] - b["mu"]
    return float(gap @ gap + numpy.trace(a["sigma"]) + numpy.trace(b["sigma"]) - 2 * numpy.trace(root.real))


def main():
    options = options_of(
        __doc__,
        3000,
        python_with_torch={"default": sys.executable},
        condition={"type": float, "default": 0, "help": "by which the features are worse conditioned"},
    )
    import numpy
    import scipy
    from scipy import linalg

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = make_statistics(options, folder, options.python_with_torch, condition=options.condition)
        a, b = (numpy.load(file) for file in files)
        a, b = ({key: file[key] for key in ("mu", "sigma")} for file in (a, b))
        ours, theirs = [], []
        for _ in range(options.repeats):
            start, start_cpu = time.perf_counter(), time.process_time()
            expected = distance(numpy, linalg, a, b)
            theirs.append((time.perf_counter() - start, time.process_time() - start_cpu))
            record = score(options, folder)
            ours.append(record["seconds_scores"])
    seconds, cpu = (min(column) for column in zip(*theirs))
    print(
        json.dumps(
            {
                "scipy": scipy.__version__,
                "images": options.images,
                "condition": float(numpy.linalg.cond(a["sigma"])),
                "threads": options.threads,
                "scipy_seconds": round(seconds, 2),
                "scipy_cpu_seconds": round(cpu, 2),
                "fid_seconds": round(min(ours), 2),
                "ratio": round(seconds / min(ours), 2),
                "relative_gap": abs(record["fid"] - expected) / expected,
                "rank": record["frechet"]["rank_generated"],
            }
        )
    )


if __name__ == "__main__":
    main()
