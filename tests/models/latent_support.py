"""Checkpoints of known numbers: weights follow from their names, shapes and a seed, and goldens need not hold them."""

import json
import struct
from pathlib import Path

import numpy
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/golden/models"


def synthetic_weights(shapes: dict[str, list[int]], seed: int) -> dict[str, Tensor]:
    """Random weights that keep activations near one: scales near 1, embeddings of unit variance, the rest by fan-in."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name in sorted(shapes):
        values = torch.randn(shapes[name], generator=generator)
        if "embedding" in name:
            weights[name] = values
        elif values.dim() >= 2:
            weights[name] = values / values[0].numel() ** 0.5
        else:
            weights[name] = 0.1 * values + (1.0 if name.endswith("weight") else 0.0)
    return weights


DTYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64", torch.int64: "I64"}


def save_safetensors(path: Path, tensors: dict[str, Tensor]) -> None:
    header, body = {}, bytearray()
    for name, value in tensors.items():
        content = value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        place = [len(body), len(body) + len(content)]
        header[name] = {"dtype": DTYPES[value.dtype], "shape": list(value.shape), "data_offsets": place}
        body += content
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def is_weight(name: str, value: Tensor) -> bool:
    """Whether a checkpoint's entry is drawn anew: not a table, a counter or a buffer of positions."""
    return (
        value.is_floating_point()
        and name.startswith(("model.", "model_ema.", "first_stage_model.", "cond_stage_model."))
        and value.dim() > 0
    )


def recipe(name: str) -> dict:
    """What latent_goldens says of a model: names and shapes of its weights, seed, options."""
    with numpy.load(GOLDEN / "latent_goldens.npz") as arrays:
        return json.loads(arrays["recipes"].tobytes())[name]


class Golden:
    """One model of latent_goldens: `state` (the original's state dict), `arrays` (inputs and original outputs)."""

    def __init__(self, name: str):
        about, prefix = recipe(name), name + "/"
        with numpy.load(GOLDEN / "latent_goldens.npz") as arrays:
            self.arrays = {
                key[len(prefix) :]: torch.from_numpy(arrays[key]) for key in arrays.files if key.startswith(prefix)
            }
        self.options = about["options"]
        self.state = synthetic_weights(about["shapes"], about["seed"])
        for table in about["tables"]:
            self.state[table] = self.arrays.get(table, torch.zeros(()))
