"""How fast `fid ref` is beside the Python programs that people use, on the same pictures, network and CPU threads.

    python tests/bench/bench_fid_ref.py --against pytorch-fid --images 320     random Inception weights
    python tests/bench/bench_fid_ref.py --against onnxruntime --images 320     the same network
    python tests/bench/bench_fid_ref.py --against loop --images 10000          the demo's feature network

pytorch-fid is its own calculate_activation_statistics (the package must be there); `loop` reads with Pillow, runs the
TorchScript network batch by batch, and takes numpy.cov, as a plain script would; `onnxruntime` is that script around
the network in ONNX. Both sides start as programs of their own, read the same folder of PNGs (made here) and write an
.npz, in turn, --repeats times; the best counts. Prints a line of JSON: wall and CPU seconds of both, their ratios,
and how far mean and covariance differ.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy

ROOT = Path(__file__).resolve().parents[2]
BATCH = 32


def make_pictures(folder, count, size):
    from PIL import Image

    random = numpy.random.RandomState(0)
    y, x = numpy.mgrid[:size, :size]
    for i in range(count):
        waves = [127 + 80 * numpy.sin(a * x + b * y + c) for a, b, c in random.uniform(0.05, 0.8, (3, 3))]
        pixels = numpy.stack(waves, 2) + random.normal(0, 15, (size, size, 3))
        Image.fromarray(pixels.clip(0, 255).astype(numpy.uint8)).save(folder / f"{i:06d}.png")


def make_detector(folder):
    """`inception-pytorch` with random weights, and these weights for pytorch-fid."""
    sys.path.insert(0, str(ROOT / "tests/models"))
    import torch

    from inception_support import inception, random_weights

    torch.save(random_weights(), folder / "weights.pth")
    return inception.export("inception-pytorch", folder / "weights.pth", folder / "inception-pytorch.ts")


def run_pytorch_fid(options):
    """In a process of its own: pytorch-fid's statistics."""
    import torch
    from pytorch_fid import fid_score, inception

    torch.set_num_threads(options.threads)
    inception.load_state_dict_from_url = lambda *_, **__: torch.load(options.weights)
    model = inception.InceptionV3([inception.InceptionV3.BLOCK_INDEX_BY_DIM[2048]])
    files = sorted(Path(options.folder).glob("*.png"))
    mu, sigma = fid_score.calculate_activation_statistics(files, model, 50, 2048, "cpu", num_workers=options.workers)
    numpy.savez(options.dest, mu=mu, sigma=sigma)


def make_onnx(detector, path, size):
    """The detector in ONNX, for batches of BATCH images of this size."""
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx

    network = torch.jit.load(detector).eval()
    images = torch.randint(256, (BATCH, 3, size, size), dtype=torch.uint8)
    with torch.no_grad():
        exported = torch.export.export(make_fx(lambda images: network(images))(images), (images,))
        torch.onnx.export(exported, f=str(path), dynamo=True)
    return path


def run_onnxruntime(options):
    """In a process of its own: a plain script around onnxruntime."""
    import onnxruntime
    from PIL import Image

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    session = onnxruntime.InferenceSession(options.detector, settings, ["CPUExecutionProvider"])
    name, files, features = session.get_inputs()[0].name, sorted(Path(options.folder).glob("*.png")), []
    for first in range(0, len(files), BATCH):
        batch = [numpy.asarray(Image.open(file).convert("RGB")) for file in files[first : first + BATCH]]
        images = numpy.ascontiguousarray(numpy.stack(batch).transpose(0, 3, 1, 2))
        features.append(session.run(None, {name: images})[0].astype(numpy.float64))
    features = numpy.concatenate(features)
    numpy.savez(options.dest, mu=features.mean(0), sigma=numpy.cov(features, rowvar=False))


def run_loop(options):
    """In a process of its own: what a plain script does."""
    import torch
    from PIL import Image

    torch.set_num_threads(options.threads)
    model = torch.jit.load(options.detector).eval()
    files, features = sorted(Path(options.folder).glob("*.png")), []
    with torch.no_grad():
        for first in range(0, len(files), 50):
            batch = [numpy.asarray(Image.open(file).convert("RGB")) for file in files[first : first + 50]]
            images = torch.from_numpy(numpy.stack(batch)).permute(0, 3, 1, 2)
            features.append(model(images).double().numpy())
    features = numpy.concatenate(features)
    numpy.savez(options.dest, mu=features.mean(0), sigma=numpy.cov(features, rowvar=False))


def timed(command, threads):
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = dict(os.environ, **{name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")})
    subprocess.run(command, env=environment, check=True, capture_output=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def largest_gap(a, b):
    with numpy.load(a) as ours, numpy.load(b) as theirs:
        return {name: float(abs(ours[name] - theirs[name]).max() / abs(theirs[name]).max()) for name in ("mu", "sigma")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fid", default=str(ROOT / "build/bin/fid"))
    parser.add_argument("--against", choices=("pytorch-fid", "onnxruntime", "loop"), default="pytorch-fid")
    parser.add_argument("--images", type=int, default=320)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="that decode, on both sides; the loop has none")
    parser.add_argument("--repeats", type=int, default=3)
    for name in ("folder", "dest", "weights", "detector"):  # of the processes that this one starts
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder:
        sides = {"loop": run_loop, "pytorch-fid": run_pytorch_fid, "onnxruntime": run_onnxruntime}
        return sides[options.against](options)
    if options.against == "onnxruntime" and options.images % BATCH:
        parser.error(f"--images must be a multiple of {BATCH}: onnxruntime gets whole batches")

    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "pictures").mkdir()
        make_pictures(folder / "pictures", options.images, options.size)
        detector = ROOT / "models/demo/features.ts" if options.against == "loop" else make_detector(folder)
        program = [
            options.fid,
            "ref",
            "--data",
            folder / "pictures",
            "--dest",
            folder / "ours.npz",
            "--detector",
            detector,
            "--device",
            "cpu",
            "--quiet",
            "--threads",
            str(options.threads),
            "--workers",
            str(options.workers),
        ]
        script = [
            sys.executable,
            __file__,
            "--against",
            options.against,
            "--threads",
            str(options.threads),
            "--workers",
            str(options.workers),
            "--folder",
            folder / "pictures",
            "--dest",
            folder / "theirs.npz",
            "--weights",
            folder / "weights.pth",
            "--detector",
            make_onnx(detector, folder / "network.onnx", options.size)
            if options.against == "onnxruntime"
            else detector,
        ]
        for _ in range(options.repeats):
            theirs.append(timed(script, options.threads))
            ours.append(timed(program, options.threads))
        gap = largest_gap(folder / "ours.npz", folder / "theirs.npz")
    (wall, cpu), (their_wall, their_cpu) = [[min(column) for column in zip(*runs)] for runs in (ours, theirs)]
    print(
        json.dumps(
            {
                "against": options.against,
                "images": options.images,
                "threads": options.threads,
                "their_seconds": round(their_wall, 2),
                "seconds": round(wall, 2),
                "ratio": round(their_wall / wall, 3),
                "their_cpu_seconds": round(their_cpu, 2),
                "cpu_seconds": round(cpu, 2),
                "cpu_ratio": round(their_cpu / cpu, 3),
                "relative_gap": gap,
            }
        )
    )


if __name__ == "__main__":
    main()
