"""Small random networks on which learned solvers are compared, in each kind of model that the zoo is for."""

import itertools
import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "models"), str(ROOT / "models" / "plans")]

import grids  # noqa: E402

ZOO = ROOT / "exp" / "zoo"
SHAPE = (1, 1, 2, 4)  # of the noise that a trajectory begins with
VP_LEVELS = grids.sigmas_of(grids.linear_betas(1e-4, 0.02))


def noise() -> Tensor:
    return torch.from_numpy(np.random.RandomState(7).standard_normal(SHAPE)).float()


def draws():
    """The noise that AdaSDE's program draws, step by step; in the first, its share is 0."""
    random = np.random.RandomState(8)
    while True:
        yield torch.from_numpy(random.standard_normal(SHAPE)).float()


def raw(x: Tensor, time: Tensor) -> Tensor:
    """A random network F(x; time), of time [B] in about [0, 1] or ln(sigma) / 4."""
    random, width = np.random.RandomState(3), x[0].numel()
    inner, outer = (torch.from_numpy(random.standard_normal((width, width)) / width**0.5).to(x) for _ in range(2))
    hidden = torch.tanh(x.flatten(1) @ inner + 2 * time.to(x).reshape(-1, 1))
    return (1.5 * hidden @ outer).reshape(x.shape)


def edm(x: Tensor, sigma: Tensor) -> Tensor:
    """D(x; sigma) of a pixel model (Karras et al. 2022, Table 1), with sigma_data 1/2."""
    sigma = sigma.reshape(-1, 1, 1, 1).to(x)
    variance = sigma**2 + 0.25
    return 0.25 / variance * x + 0.5 * sigma / variance**0.5 * raw(x / variance**0.5, sigma.log() / 4)


def flow(x: Tensor, s: Tensor) -> Tensor:
    """D = x - s v(x; s) of a flow model."""
    return x - s.reshape(-1, 1, 1, 1).to(x) * raw(x, s)


def latent(dataset: str):
    """D = x - sigma eps(x / sqrt(1 + sigma^2); u(sigma)) of latent diffusion."""
    time = {"lsun_bedroom_ldm": grids.LatentTime(0.0015, 0.0195), "ms_coco": grids.LatentTime(0.00085, 0.012)}[dataset]

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        scale = sigma.reshape(-1, 1, 1, 1).to(x)
        return x - scale * raw(x / (1 + scale**2) ** 0.5, (1000 * time.u(sigma.float().reshape(-1)) - 1) / 1000)

    return denoise


def discrete(x: Tensor, sigma: Tensor) -> Tensor:
    """D = x - sigma eps(x / sqrt(1 + sigma^2); k) of a model of whole steps k."""
    scale = sigma.reshape(-1, 1, 1, 1).to(x)
    step = (VP_LEVELS[None] - sigma.reshape(-1, 1).float()).abs().argmin(1)
    return x - scale * raw(x / (1 + scale**2) ** 0.5, step / 1000)


def network(dataset: str):
    """denoise(x, level) of the dataset's kind of model."""
    if dataset in ("lsun_bedroom_ldm", "ms_coco"):
        return latent(dataset)
    if dataset == "dit":
        return discrete
    return flow if dataset.split("-")[0] in ("flux", "sd3", "sit", "flowdcn") else edm


def plan_of(predictor):
    """The plan file of a predictor of kind ns."""
    points, end = predictor["plan"]["points"], predictor["plan"]["end"]
    instructions, images, noises, registers = [], [], [], itertools.count(1)

    def combine(point):
        shares = point.get("noise", [])
        while len(noises) < len(shares):
            noises.append(next(registers))
            instructions.append({"noise": noises[-1]})
        sums = {"registers": [0, *images, *noises[: len(shares)]]}
        sums["coefficients"] = [point["start"], *point["weights"], *shares]
        instructions.append({"combine": next(registers)} | sums)
        return instructions[-1]["combine"]

    for _, stage in itertools.groupby(points, lambda point: point["stage"]):
        stage = list(stage)
        states, levels = [combine(point) for point in stage], [point["sigma"] for point in stage]
        made = [next(registers) for _ in stage]
        instructions.append({"evaluate": made, "states": states, "sigmas": levels})
        images += made
    times, clock = [predictor["plan"]["t_0"], end["sigma"]], predictor["schedule"]["type"] == "flowmatch"
    plan = {"format": "epd-plan", "version": 1, "clock": "flow" if clock else "edm", "times": times}
    return plan | {"grid": [0, combine(end)], "instructions": instructions}


def bad_plans():
    """(what is wrong, text) of plan files that cannot run, each wrong in one place."""
    combine = {"combine": 2, "registers": [0, 1], "coefficients": [0.25, 0.75]}
    evaluate = {"evaluate": [1], "states": [0], "sigmas": [8.0]}
    plan = {"format": "epd-plan", "version": 1, "clock": "edm", "num_registers": 3, "times": [8, 2], "grid": [0, 2]}
    plan["instructions"] = [evaluate, combine]
    fields = (
        ("format", "epd-predictor"), ("version", 2), ("version", "1"), ("instructions", 3), ("instructions", [3]),
        ("instructions", [{}]), ("instructions", [{"multiply": 1}]), ("instructions", None), ("times", []),
        ("times", [0, -1]), ("times", ["8", 2]), ("times", 8), ("grid", []), ("grid", [0, 9]), ("grid", 2),
        ("grid", [0, [2]]), ("mean", [1]), ("mean", 1), ("mean", {}), ("sha256", "0" * 64),
    )  # fmt: skip
    for name, value in fields:
        yield f"{name} {value}", json.dumps(plan | {name: value})
    for name in ("format", "version", "instructions", "times", "grid"):
        yield f"no {name}", json.dumps({key: value for key, value in plan.items() if key != name})
    steps = (
        (0, "states", [1]), (0, "states", []), (0, "states", [2]), (0, "states", [-1]), (0, "states", 0),
        (0, "sigmas", [0]), (0, "sigmas", [-8]), (0, "sigmas", [math.nan]), (0, "sigmas", [math.inf]),
        (0, "sigmas", ["8"]), (0, "sigmas", [8, 2]), (0, "sigmas", None), (0, "evaluate", [0]), (0, "evaluate", []),
        (0, "evaluate", [1, 1]), (0, "evaluate", "ab"), (1, "registers", [0, 7]), (1, "registers", [0, 10**9]),
        (1, "registers", [0, 2]), (1, "registers", []), (1, "registers", "01"), (1, "coefficients", [1]),
        (1, "coefficients", [1, "2"]), (1, "coefficients", [1, math.nan]), (1, "combine", 0), (1, "combine", 1),
        (1, "combine", [2]), (1, "combine", None),
    )  # fmt: skip
    for n, name, value in steps:
        changed = [step | {name: value} if n == k else step for k, step in enumerate(plan["instructions"])]
        yield f"instruction {n} {name} {value}", json.dumps(plan | {"instructions": changed})
    noise = [evaluate, combine, {"noise": 2}]
    yield "noise twice", json.dumps(plan | {"instructions": noise})
    good = json.dumps(plan)
    yield from (("empty", ""), ("list", "[]"), ("null", "null"), ("half", good[: len(good) // 2]), ("more", good + "}"))
    yield "deep", "[" * 100000
    yield "binary", "\0\1{"
