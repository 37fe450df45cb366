"""Writes diffusers_unets.npz with diffusers' own networks: ~/.cache/epd/diffusers/bin/python make_diffusers_goldens.py"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "models"))

from test_diffusers_unet import CROSS, PLAIN, SDXL, inputs, original  # noqa: E402

SMALL = {"block_out_channels": [4, 4], "norm_num_groups": 2}
arrays = {}
for name, config in (
    ("plain", PLAIN | SMALL | {"attention_head_dim": 2, "layers_per_block": 1}),
    ("cross", CROSS | SMALL | SDXL | {"use_linear_projection": True}),
):
    network = original(config)
    for weight in network.parameters():
        weight.copy_((weight * 64).round() / 64)  # few bits: a small file
    x, time, _, more = inputs(config)
    with torch.no_grad():
        arrays[f"{name}.output"] = network(x, time, **more).sample.numpy()
    arrays[f"{name}.config"] = json.dumps(config)
    weights = network.state_dict()
    arrays[f"{name}.shapes"] = json.dumps({key: list(value.shape) for key, value in weights.items()})
    arrays[f"{name}.weights"] = np.concatenate([value.half().numpy().ravel() for value in weights.values()])
np.savez_compressed(HERE / "diffusers_unets.npz", **arrays)
