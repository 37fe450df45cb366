"""What runs the network fastest: one table of engines and precisions, on the same seeds, steps and threads.

    python tests/bench/bench_engines.py [--sample build/bin/sample] [--images 256] [--threads 1]

Every row draws the images and writes PNGs: `sample` by TorchScript and, where `./launch.sh model demo --optimize` has
compiled the model, compiled; and a Python loop around the same model file, around torch.compile of its operations,
and around onnxruntime where that is installed (with onnx and onnxscript). Rows run in turn, --repeats times; medians
are of seconds without loading, and of ratios to the loop around the model file within one turn.
"""

import argparse
import importlib.util
import platform
import statistics
import sys
import tempfile
from pathlib import Path

import numpy
import torch
from bench_sample import ROOT, largest_difference, load, option_parser, run_python, run_sample

sys.path.insert(0, str(ROOT / "models"))
BASE = "Python loop, TorchScript fp32"


def compiled(model, facts, batch):
    """torch.compile of the model's operations on batches of this size."""
    from torch.fx.experimental.proxy_tensor import make_fx

    import optimize

    run = torch.compile(make_fx(lambda *inputs: model(*inputs))(*optimize.example(facts, "cpu", batch)), dynamic=False)
    return lambda *values: run(*(value for value in values if value is not None))


def onnx(model, facts, batch, threads, folder):
    """onnxruntime on the model's operations."""
    import onnxruntime
    from torch.fx.experimental.proxy_tensor import make_fx

    import optimize

    inputs = optimize.example(facts, "cpu", batch)
    exported = torch.export.export(make_fx(lambda *inputs: model(*inputs))(*inputs), tuple(inputs))
    torch.onnx.export(exported, f=str(Path(folder, "model.onnx")), dynamo=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(Path(folder, "model.onnx")), options, ["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]

    def run(*values):
        given = {name: numpy.ascontiguousarray(value.numpy()) for name, value in zip(names, values)}
        return torch.from_numpy(session.run(None, given)[0])

    return run


def processor():
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def rows_of(options, folder):
    """(name, run(folder) -> seconds) of every row that this machine can run."""
    model, facts = load(options.model)
    loop = lambda network: lambda out: run_python(options, out, network, facts)
    rows = {BASE: loop(model)}
    if options.torch_compile:
        rows["Python loop, torch.compile fp32"] = loop(compiled(model, facts, options.batch))
    if all(map(importlib.util.find_spec, ("onnxruntime", "onnx", "onnxscript"))):
        rows["Python loop, onnxruntime fp32"] = loop(onnx(model, facts, options.batch, options.threads, folder))

    def sample(precision, engine):
        more = ["--precision", precision, "--engine", engine]
        return lambda out: run_sample(argparse.Namespace(**vars(options) | {"more": more}), out)

    for precision in ("fp32", "bf16"):
        rows[f"sample, TorchScript {precision}"] = sample(precision, "torchscript")
        if Path(options.model).with_name(f"denoiser.cpu-{precision}-16.pt2").exists():
            rows[f"sample, compiled {precision}"] = sample(precision, "compiled")
    return rows


def main():
    parser = option_parser(__doc__, threads=1)
    parser.add_argument("--torch_compile", action="store_true", help="with a row of torch.compile (takes minutes)")
    options = parser.parse_args()
    if options.images % options.batch:
        parser.error("--images must be a multiple of --batch: the other engines run whole batches")
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as temporary:
        rows = rows_of(options, temporary)
        seconds, folders = {name: [] for name in rows}, {}
        for repeat in range(options.repeats + 1):  # the first is not counted: engines make themselves ready in it
            for i, (name, run) in enumerate(rows.items()):
                folders[name] = Path(temporary, f"{repeat}-{i}")
                folders[name].mkdir()
                seconds[name].append(run(folders[name]))
        print(f"{processor()}, {options.threads} threads, {options.images} images, torch {torch.__version__}\n")
        print("| engine | images/s | speed | largest difference of a pixel (of 255) |\n|---|---:|---:|---:|")
        for name, times in seconds.items():
            ratio = statistics.median(base / time for base, time in zip(seconds[BASE][1:], times[1:]))
            speed = options.images / statistics.median(times[1:])
            print(f"| {name} | {speed:.1f} | {ratio:.2f} | {largest_difference(folders[BASE], folders[name])} |")


if __name__ == "__main__":
    main()
