"""What the layouts, precisions and engines are worth on this machine, for the full-size CIFAR-10 network.

    python tests/gpu/engines.py [--rows 256] [--seconds 1] [--only PART_OF_A_NAME]

Needs a Python with torch alone; the weights are random. Each line is one way to run the network: images/s of the plan
of EPD with NFE 5 and 2 points (8 evaluations an image), the largest relative difference to fp32, and for half precision
the milliseconds of one evaluation by kind of kernel. There should be no layout transposes, and flash attention.
"""

import argparse
import re
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/models"), str(ROOT / "models")]

from full_size import edm_model  # noqa: E402

EVALUATIONS = 8  # an image's
KINDS = {  # of kernels, by their names; the first that fits counts
    "transposes": r"nchwToNhwc|nhwcToNchw|transpose",
    "flash": r"flash|fmha|sdp|mha",
    "softmax": r"softmax",
    "convolutions, products": r"conv|fprop|xmma|gemm|cutlass|cudnn|nvjet|mkldnn|addmm|bmm",
    "norms": r"norm|Moments|FusedParams|var_mean|Welford",
    "copies": r"copy|Memcpy|cat",
    "generated": r"triton",
}


class LayoutNorm(nn.Module):
    """Group normalisation that leaves channels_last as it is; Torch's CUDA kernel works on NCHW alone."""

    def __init__(self, norm):
        super().__init__()
        self.groups, self.eps, self.weight, self.bias = norm.num_groups, norm.eps, norm.weight, norm.bias

    def forward(self, x):
        grouped = x.unflatten(1, [self.groups, x.shape[1] // self.groups]).flatten(3)
        variance, mean = torch.var_mean(grouped, [2, 3], correction=0, keepdim=True)
        scale = (variance + self.eps).rsqrt() * self.weight.view(self.groups, -1, 1)
        shift = self.bias.view(self.groups, -1, 1) - mean * scale
        return torch.addcmul(shift, grouped, scale).unflatten(3, [x.shape[2], x.shape[3]]).flatten(1, 2)


class Unconditional(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x, sigma):
        return self.model(x, sigma)


def replace_norms(module):
    for name, child in module.named_children():
        if type(child) is nn.GroupNorm:
            setattr(module, name, LayoutNorm(child))
        else:
            replace_norms(child)


def make(device, dtype, channels_last=False, norms=False):
    model = edm_model("cifar10")[0].eval().requires_grad_(False).to(device)
    if norms:
        replace_norms(model.network)
    model.network.to(dtype)
    if channels_last:
        model.network.to(memory_format=torch.channels_last)
    return Unconditional(model)


def kinds_of_kernels(call, cuda):
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as record:
        call()
        if cuda:
            torch.cuda.synchronize()
    times, other = {}, {}
    for event in record.key_averages():
        spent = event.self_device_time_total if cuda else event.self_cpu_time_total
        kind = next((k for k, pattern in KINDS.items() if re.search(pattern, event.key, re.IGNORECASE)), "other")
        times[kind] = times.get(kind, 0) + spent / 1000
        if kind in ("other", "transposes", "copies"):
            other[event.key[:110]] = spent / 1000
    print("    ms an evaluation: " + ", ".join(f"{k} {v:.2f}" for k, v in sorted(times.items(), key=lambda i: -i[1])))
    for name, spent in sorted(other.items(), key=lambda item: -item[1])[:4]:
        print(f"        {spent:.2f} {name}")


class Bench:
    def __init__(self, options):
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.cuda = self.device.type == "cuda"
        self.rows, self.seconds = options.rows, options.seconds
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(self.rows, 3, 32, 32, generator=generator).to(self.device)
        self.sigma = torch.full((self.rows,), 2.0, device=self.device)
        self.exact = None

    def finish(self):
        if self.cuda:
            torch.cuda.synchronize()

    def plan(self, model, x):
        """As many evaluations as an image takes, each from the last."""
        for _ in range(EVALUATIONS):
            x = x + 0.1 * (model(x, self.sigma) - x)
        return x

    def graph_of(self, model):
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(2):
                self.plan(model, self.x)
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            out = self.plan(model, self.x)
        graph.replay()
        self.finish()
        print(f"    graph against eager: equal bits {torch.equal(out, self.plan(model, self.x))}")
        return graph.replay

    def images_per_second(self, call):
        call()
        self.finish()
        start, runs = time.perf_counter(), 0
        while time.perf_counter() - start < self.seconds:
            call()
            self.finish()
            runs += 1
        return runs * self.rows / (time.perf_counter() - start)

    def measure(self, name, make_model, tf32=False, kernels=False, graph=False):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        start = time.perf_counter()
        try:
            with torch.no_grad():
                model = make_model()
                out = model(self.x, self.sigma)
                model(self.x, self.sigma)
                self.finish()
                ready = time.perf_counter() - start
                self.exact = out if self.exact is None else self.exact
                gap = float((out - self.exact).abs().max() / self.exact.abs().max())
                speed = self.images_per_second(lambda: self.plan(model, self.x))
                print(f"{name:58} {speed:8.1f} images/s, difference {gap:.1e}, ready in {ready:.0f} s", flush=True)
                if kernels:
                    kinds_of_kernels(lambda: model(self.x, self.sigma), self.cuda)
                if graph and self.cuda:
                    speed = self.images_per_second(self.graph_of(model))
                    print(f"{name + ', the plan as a CUDA graph':58} {speed:8.1f} images/s", flush=True)
        except Exception as error:  # one way that fails leaves the others
            print(f"{name}: FAILED: {type(error).__name__}: {str(error).strip().splitlines()[-1][:300]}", flush=True)
        if self.cuda:
            torch.cuda.empty_cache()

    def compiled(self, folder):
        """The network compiled ahead of time, for this number of rows."""
        model = make(self.device, torch.bfloat16, channels_last=True)
        exported = torch.export.export(model, (self.x, self.sigma))
        package = torch._inductor.aoti_compile_and_package(
            exported,
            package_path=str(Path(folder, "model.pt2")),
            inductor_configs={"aot_inductor.compile_wrapper_opt_level": "O0"},
        )
        return torch._inductor.aoti_load_package(package)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--only", default="", help="the ways whose names have this in them")
    options = parser.parse_args()
    torch._C._jit_set_texpr_fuser_enabled(False)
    torch._C._jit_set_profiling_mode(False)
    bench = Bench(options)
    name = torch.cuda.get_device_name() if bench.cuda else "CPU"
    print(f"{name}, torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}, {options.rows} rows")
    fp32, bf16 = torch.float32, torch.bfloat16
    both = dict(channels_last=True, norms=True)
    scripted = lambda **how: torch.jit.script(make(bench.device, **how))
    with tempfile.TemporaryDirectory() as folder:
        ways = {
            "TorchScript fp32": (lambda: scripted(dtype=fp32), {}),
            "TorchScript fp32, channels_last": (lambda: scripted(dtype=fp32, channels_last=True), {}),
            "TorchScript tf32": (lambda: scripted(dtype=fp32), dict(tf32=True)),
            "TorchScript tf32, channels_last": (lambda: scripted(dtype=fp32, channels_last=True), dict(tf32=True)),
            "TorchScript tf32, channels_last, norms too": (lambda: scripted(dtype=fp32, **both), dict(tf32=True)),
            "TorchScript bf16": (lambda: scripted(dtype=bf16), dict(kernels=True)),
            "TorchScript bf16, channels_last": (lambda: scripted(dtype=bf16, channels_last=True), dict(kernels=True)),
            "TorchScript bf16, channels_last, norms too": (
                lambda: scripted(dtype=bf16, **both),
                dict(kernels=True, graph=True),
            ),
            "Inductor bf16 (torch.compile)": (
                lambda: torch.compile(make(bench.device, bf16, channels_last=True), dynamic=False),
                dict(kernels=True, graph=True),
            ),
            "AOTInductor bf16": (lambda: bench.compiled(folder), dict(graph=True)),
        }
        for way, (make_model, measured) in ways.items():
            if options.only in way:
                bench.measure(way, make_model, **measured)


if __name__ == "__main__":
    main()
