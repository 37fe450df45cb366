"""A model compiled ahead of time for this machine, by AOTInductor: `./launch.sh model NAME --optimize`.

What is compiled is the model file itself, for one device, precision and number of images in a forward: the network's
operations are recorded while it runs, so a model of any origin can be compiled. The result lies beside the model, named
after these three: denoiser.cpu-bf16-16.pt2. Its compiled.json says of which model, LibTorch and processor it is: the
programs use it where all of that fits, and TorchScript elsewhere.
"""

import json
import os
import statistics
import time
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import contract
from download import sha256_of
from scratch import scratch_folder

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
ROWS = {"cpu": 16, "cuda": 64}  # the programs' default --chunk
CPU_LINES = ("model name", "flags", "CPU part", "Features")  # of /proc/cpuinfo: x86, and ARM
TOLERANCE = {"fp32": 1e-4, "tf32": 2e-2, "fp16": 2e-2, "bf16": 1e-1}  # to TorchScript in the same precision


def compiled_path(model: Path, device: str, precision: str, rows: int) -> Path:
    return model.with_name(f"{model.stem}.{device}-{precision}-{rows}.pt2")


def processor(device: str) -> str:
    """What compiled code is bound to; the programs compare it with their own."""
    if device == "cuda":
        return f"{torch.cuda.get_device_name()}, cuDNN {torch.backends.cudnn.version()}"
    lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    return "; ".join(line.partition(":")[2].strip() for line in lines if line.startswith(CPU_LINES))


def example(facts: dict[str, Any], device: str, rows: int) -> list[Tensor]:
    """x, sigma and, where the model has one, the condition: of so many rows."""
    _, (x, sigma, condition) = contract.random_calls(facts, device)[0]
    given = [x, sigma] + ([condition] if condition is not None else [])
    return [value[torch.arange(rows, device=device) % 2].contiguous() for value in given]


def load(model: Path, device: str, precision: str) -> torch.jit.ScriptModule:
    """The model as TorchScript, in the precision and the layout that its kernels want."""
    torch._C._jit_set_texpr_fuser_enabled(False)
    torch._C._jit_set_profiling_mode(False)
    module = torch.jit.load(str(model), map_location=device).eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
        parameter.data = parameter.data.float()  # files may hold halves
    if precision in ("fp16", "bf16"):
        module.network.to(DTYPES[precision])
    return module.to(memory_format=torch.channels_last)


def compile_forward(module: torch.jit.ScriptModule, inputs: list[Tensor], package: Path) -> None:
    """The module's forward on inputs of these shapes, compiled into a package of torch."""
    from torch.fx.experimental.proxy_tensor import make_fx

    # A function of as many tensors as there are: a model without a condition has none in its place.
    conditioned = lambda x, sigma, condition: module(x, sigma, condition)  # noqa: E731
    alone = lambda x, sigma: module(x, sigma, None)  # noqa: E731
    operations = make_fx(conditioned if len(inputs) == 3 else alone, tracing_mode="real")(*inputs)
    # Programs run whole chunks side by side, each on one thread. Frozen weights lie as the processor wants them.
    configs = {"cpp.threads": 1, "freezing": inputs[0].device.type == "cpu"}
    exported = torch.export.export(operations, tuple(inputs))
    torch._inductor.aoti_compile_and_package(exported, package_path=str(package), inductor_configs=configs)


def add_description(package: Path, description: dict[str, Any]) -> None:
    """compiled.json, as a further entry of the package."""
    with zipfile.ZipFile(package, "a") as archive:
        top = archive.namelist()[0].partition("/")[0]
        archive.writestr(f"{top}/extra/compiled.json", json.dumps(description, indent=1))
    with open(package, "rb") as file:
        os.fsync(file.fileno())


def seconds(call: Any, inputs: list[Tensor]) -> float:
    start = time.perf_counter()
    call(*inputs)
    if inputs[0].is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def optimize(model: Path, precision: str = "", rows: int = 0, device: str = "") -> tuple[Path, str]:
    """Compile the model file and hold the result against TorchScript; (its path, a line on what it is worth)."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    facts = contract.read_facts(model)
    preferred = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}[facts["precision"]]
    precision = precision or ("fp32" if device == "cpu" else preferred)
    rows = rows or ROWS[device]
    if precision == "tf32" and device == "cpu":
        raise ValueError("--precision tf32 needs a GPU; use fp32 on the CPU")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.set_num_threads(1)
    description = {
        "model_sha256": sha256_of(model),
        "torch": torch.__version__.partition("+")[0],
        "processor": processor(device),
    }
    inputs = example(facts, device, rows)
    path = compiled_path(model, device, precision, rows)
    with scratch_folder(".optimize-", path.parent) as folder, torch.no_grad():
        # All that the compiler makes on its way lies in this folder too, and goes with it.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = os.environ["TRITON_CACHE_DIR"] = str(Path(folder, "cache"))
        package = Path(folder, path.name)
        script = load(model, device, precision)
        compile_forward(script, inputs, package)
        compiled = torch._inductor.aoti_load_package(str(package))
        expected, actual = script(*inputs), compiled(*inputs)
        error = contract.relative_error(actual, expected)
        if not error <= TOLERANCE[precision]:
            raise ValueError(
                f"{path.name} would differ from TorchScript by {error:.1e} of the largest value: not written"
            )
        times = [(seconds(script, inputs), seconds(compiled, inputs)) for _ in range(7)]
        exact = load(model, device, "fp32")(*inputs)
        loss = float((actual - exact).square().mean().sqrt() / exact.square().mean().sqrt())
        add_description(package, description)
        os.replace(package, path)
    ratio = statistics.median(theirs / ours for theirs, ours in times)
    return (
        path,
        f"{ratio:.2f} times as fast as TorchScript in {precision}; differs from fp32 by {loss:.1e} (RMS, relative)",
    )
