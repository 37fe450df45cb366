"""The model contract, version 1: a TorchScript file that computes the denoised image, and its facts beside it.

`denoiser.ts` is the file that `train` and `sample` load. It holds a scripted module with

    forward(x [B, C, H, W], sigma [B], condition: Optional[Tensor]) -> denoised x, in the dtype of x
    decode(latent [B, C, H, W]) -> images [B, 3, H', W'] in about [-1, 1]          (where facts["latent"])
    encode_text(tokens int64 [B, 77]) -> text states [B, rows, width]             (where facts["text"])
    log_prob(x, sigma, label int64 [B]) -> log p(label | x; sigma) [B]            (where facts["classifier"])
    guide(x, sigma, condition) -> denoised x of a second, weaker network          (where facts["guide"])

and the extra file `facts.json`, readable without loading the weights. The submodules `network` and `guide_network` may
be cast to another dtype alone, and may be saved in half precision: what surrounds them (the preconditioning) stays in
float32. So that each can be moved between devices alone, the others are called `first_stage` (the decoder),
`text_encoder` and `classifier`.
"""

import contextlib
import copy
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from download import sha256_of
from scratch import scratch_folder
from state_dict import to_stored_halves

CONTRACT_VERSION = 1
TOLERANCE = 1e-5  # scripted against eager, relative to the largest absolute value


def make_facts(
    *,
    dataset_name: str,
    resolution: int,
    channels: int,
    sigma_min: float,
    sigma_max: float,
    label_dim: int = 0,
    condition: str = "none",
    label_format: str | None = None,
    precision: str = "float32",
    clamp: bool = False,
    noise: dict | None = None,
    latent: dict | None = None,
    text: dict | None = None,
    classifier: bool = False,
    guided_channels: int | None = None,
    guide: bool = False,
    sizes: dict | None = None,
    source: dict | None = None,
) -> dict:
    """The facts of a model, checked. `resolution` and `channels` are the state's, so the latent's for latent models.

    text: {"tokens", "width"}, and where they differ from the usual "rows" of the states (default: tokens) and
    "unconditional" (the states of cfg's other half: "empty", of the empty text, or "zeros").
    guided_channels: cfg guides the first so many channels of D, the others are the conditional's (default: all).
    guide: the model has guide(), for guidance by a weaker network.
    sizes: {"multiple": m}, the state may have any height and width in multiples of m (default: `resolution` alone).
    """
    if condition not in ("none", "label", "text"):
        raise ValueError(f"condition must be none, label or text, got {condition!r}")
    if (condition == "label") != (label_dim > 0) or (condition == "label") != (label_format in ("onehot", "index")):
        raise ValueError(
            f"condition {condition!r} does not go with label_dim {label_dim} and label_format {label_format!r}"
        )
    if (condition == "text") != (text is not None):
        raise ValueError(f"condition {condition!r} does not go with text {text!r}")
    if text is not None and (
        not {"tokens", "width"} <= text.keys() <= {"tokens", "width", "rows", "unconditional"}
        or text.get("unconditional", "empty") not in ("empty", "zeros")
    ):
        raise ValueError(f"text needs tokens and width, may have rows, and unconditional empty or zeros, got {text!r}")
    if guided_channels is not None and not (0 < guided_channels <= channels and condition != "none"):
        raise ValueError(f"guided_channels must be 1 to {channels}, with a condition, got {guided_channels!r}")
    if sizes is not None and (sizes.keys() != {"multiple"} or sizes["multiple"] < 1 or resolution % sizes["multiple"]):
        raise ValueError(f"sizes must be a multiple that divides the resolution {resolution}, got {sizes!r}")
    if precision not in ("float32", "float16", "bfloat16"):
        raise ValueError(f"precision must be float32, float16 or bfloat16, got {precision!r}")
    if not 0 < sigma_min < sigma_max or not math.isfinite(sigma_max):
        raise ValueError(f"need 0 < sigma_min < sigma_max, got {sigma_min!r} and {sigma_max!r}")
    facts = {
        "contract_version": CONTRACT_VERSION,
        "dataset_name": dataset_name,
        "resolution": resolution,
        "channels": channels,
        "label_dim": label_dim,
        "sigma_min": sigma_min,
        "sigma_max": sigma_max,
        "condition": condition,
        "precision": precision,
        "clamp": clamp,
        "noise": noise,
        "latent": latent,
        "text": text,
        "classifier": classifier,
        "source": source or {},
    }
    if label_format:
        facts["label_format"] = label_format
    facts |= {"guided_channels": guided_channels} if guided_channels else {}
    facts |= {"guide": True} if guide else {}
    facts |= {"sizes": sizes} if sizes else {}
    return facts


def sources(*paths: Path | str) -> dict:
    """The `source` fact: the name and SHA-256 of each file that a model was made from."""
    return {Path(path).name: sha256_of(path) for path in paths}


def write_model(
    module: nn.Module, facts: dict, path: Path | str, write_beside: Callable[[Path], None] | None = None
) -> Path:
    """Script `module`, hold it against the eager one, and write it with its facts to `path` by rename.

    What `write_beside` writes into the folder it is given comes beside the model, just before it.
    """
    module = module.eval().requires_grad_(False)
    scripted = torch.jit.script(module)
    verify(module, scripted, facts)
    to_stored_halves(module)  # the scripted module has the same parameters
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(".export-", path.parent) as folder:
        whole, lean = folder / "whole" / path.name, folder / path.name
        whole.parent.mkdir()
        scripted.save(str(whole), _extra_files={"facts.json": json.dumps(facts, indent=1)})
        copy_without_debug_records(whole, lean)
        with open(lean, "rb") as file:
            os.fsync(file.fileno())
        if write_beside:
            write_beside(whole.parent)
            whole.unlink()
            for file in whole.parent.iterdir():
                os.replace(file, path.parent / file.name)
        os.replace(lean, path)
    return path


def copy_without_debug_records(source: Path, dest: Path) -> None:
    """Copy a TorchScript archive without the records that name source files of the machine that wrote it."""
    reader, writer = torch._C.PyTorchFileReader(str(source)), torch._C.PyTorchFileWriter(str(dest))
    for name in reader.get_all_records():
        if not name.endswith(".debug_pkl") and name not in ("version", "byteorder", ".data/serialization_id"):
            record = reader.get_record(name)
            writer.write_record(name, record, len(record))
    writer.write_end_of_file()


@contextlib.contextmanager
def strict_float32() -> Iterator[None]:
    """No TF32 and no kernels that TorchScript fuses: on a GPU both would differ by more than the tolerance."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, torch._C._jit_texpr_fuser_enabled()
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    torch._C._jit_set_texpr_fuser_enabled(False)
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before[:2]
        torch._C._jit_set_texpr_fuser_enabled(before[2])


@strict_float32()
def verify(eager: nn.Module, scripted: torch.jit.ScriptModule, facts: dict) -> None:
    """Compare every method of the contract on random inputs, on the CPU and a GPU if any. Raises above TOLERANCE."""
    devices = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
    for device in devices:
        # A copy, so that the modules given stay where they are (and CPU models are not copied at all).
        one = eager if device == "cpu" else copy.deepcopy(eager).to(device)
        other = scripted if device == "cpu" else copy.deepcopy(scripted).to(device)
        for name, arguments in random_calls(facts, device):
            try:
                with torch.no_grad():
                    expected, actual = getattr(one, name)(*arguments), getattr(other, name)(*arguments)
            except RuntimeError as error:  # a resolution that does not divide, heads or widths that do not fit
                reason = str(error).strip().splitlines()[-1]
                shapes = ", ".join("x".join(map(str, value.shape)) for value in arguments if isinstance(value, Tensor))
                raise ValueError(f"{facts['dataset_name']}: {name} fails on inputs of {shapes}: {reason}") from error
            error = relative_error(actual, expected)
            if not error <= TOLERANCE:
                raise ValueError(
                    f"{facts['dataset_name']}: scripted {name} differs from the eager one by {error:.2e} on {device}, "
                    f"above {TOLERANCE:.0e}: not written"
                )


def random_calls(facts: dict, device: str) -> list[tuple[str, tuple]]:
    """(method, arguments) pairs that exercise the contract with a batch of two, at a low and a high noise level."""
    generator = torch.Generator().manual_seed(0)
    low, high = facts["sigma_min"], facts["sigma_max"]
    sigma = torch.tensor([low**0.75 * high**0.25, low**0.25 * high**0.75])
    side = facts["resolution"]
    if facts.get("sizes"):  # at full size Stable Diffusion XL would take ten minutes and 5 GB for it
        side = min(side, facts["sizes"]["multiple"] * math.ceil(32 / facts["sizes"]["multiple"]))
    shape = (2, facts["channels"], side, side)
    noise = torch.randn(shape, generator=generator)
    x = (sigma**2 + 0.25).sqrt()[:, None, None, None] * noise
    labels = torch.randint(max(facts["label_dim"], 1), (2,), generator=generator)
    condition = None
    if facts["condition"] == "label":
        one_hot = torch.nn.functional.one_hot(labels, facts["label_dim"]).float()
        condition = one_hot if facts["label_format"] == "onehot" else labels
    if facts["condition"] == "text":
        rows = facts["text"].get("rows", facts["text"]["tokens"])
        condition = torch.randn(2, rows, facts["text"]["width"], generator=generator)
    calls: list[tuple[str, tuple]] = [("forward", (x, sigma, condition))]
    if facts["label_dim"] and facts["label_format"] == "onehot":
        calls.append(("forward", (x, sigma, None)))
    if facts["latent"]:
        calls.append(("decode", (noise,)))
    if facts.get("guide"):
        calls.append(("guide", (x, sigma, condition)))
    if facts.get("sizes"):
        wider = lambda value: torch.cat([value, value[..., : facts["sizes"]["multiple"]]], -1)
        calls += [(name, (wider(given[0]), *given[1:])) for name, given in list(calls)]
    if facts["text"]:
        tokens = torch.randint(49406, (2, facts["text"]["tokens"]), generator=generator)
        tokens[0, facts["text"]["tokens"] // 2 :] = tokens[1, -1] = 49407  # a text that ends early, a whole one
        calls.append(("encode_text", (tokens,)))
    if facts["classifier"]:
        calls.append(("log_prob", (x, sigma, labels)))
    move = lambda value: value.to(device) if isinstance(value, Tensor) else value
    return [(name, tuple(move(value) for value in arguments)) for name, arguments in calls]


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Largest absolute difference, relative to the largest absolute value; infinite for another shape or a NaN."""
    if actual.shape != expected.shape or not bool(torch.isfinite(actual).all() and torch.isfinite(expected).all()):
        return math.inf
    difference = (actual.detach() - expected.detach()).abs().max()
    return float(difference / expected.detach().abs().max().clamp_min(1e-30))


def read_facts(path: Path | str) -> dict:
    """The facts of a model file, read without its weights."""
    import zipfile

    with zipfile.ZipFile(path) as archive:
        name = next((n for n in archive.namelist() if n.endswith("/extra/facts.json")), None)
        if name is None:
            raise ValueError(f"{path} has no facts.json: not a model file of this contract")
        return json.loads(archive.read(name))
