"""The noise levels of diffusers' schedulers, from scheduler_config.json."""

import math
from typing import Any

import torch
from torch import Tensor

# A scheduler's own beta_start, beta_end and beta_schedule, where they differ from 0.0001, 0.02 and linear.
DEFAULTS = {
    "CogVideoXDDIMScheduler": (0.00085, 0.012, "scaled_linear"),
    "CogVideoXDPMScheduler": (0.00085, 0.012, "scaled_linear"),
    "LCMScheduler": (0.00085, 0.012, "scaled_linear"),
    "TCDScheduler": (0.00085, 0.012, "scaled_linear"),
    "DPMSolverSDEScheduler": (0.00085, 0.012, "linear"),
    "HeunDiscreteScheduler": (0.00085, 0.012, "linear"),
    "KDPM2AncestralDiscreteScheduler": (0.00085, 0.012, "linear"),
    "KDPM2DiscreteScheduler": (0.00085, 0.012, "linear"),
}
OTHER_KINDS = (
    "EDM",
    "Consistency",
    "CMStochastic",
    "ScoreSde",
    "KarrasVe",
    "VQDiffusion",
    "Cosine",
    "Amused",
)
PREDICTIONS = ("epsilon", "v_prediction", "sample")
LEAST_ALPHA_CUMPROD = 2.0**-24  # what diffusers puts for the zero of a zero terminal SNR


def flow_shift(config: dict[str, Any]) -> float | None:
    """The shift of a scheduler of flow models; None for the others."""
    if str(config.get("_class_name", "")).startswith("FlowMatch"):
        return float(config.get("shift", 1.0))
    if config.get("prediction_type") == "flow_prediction" or config.get("use_flow_sigmas"):
        return float(config.get("flow_shift", 1.0))
    return None


def cosine_betas(count: int) -> Tensor:
    """Nichol & Dhariwal 2021: alpha_cumprod(u) = cos^2((u + 0.008) / 1.008 pi / 2), beta at most 0.999."""
    alpha = [math.cos((i / count + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(count + 1)]
    return torch.tensor([min(1 - after / before, 0.999) for before, after in zip(alpha, alpha[1:])])


def betas(config: dict[str, Any]) -> Tensor:
    """beta [M] in float32, as diffusers computes them."""
    if config.get("trained_betas") is not None:
        return torch.tensor(config["trained_betas"], dtype=torch.float32)
    start, end, kind = DEFAULTS.get(config.get("_class_name", ""), (0.0001, 0.02, "linear"))
    start, end = float(config.get("beta_start", start)), float(config.get("beta_end", end))
    kind, count = config.get("beta_schedule", kind), int(config.get("num_train_timesteps", 1000))
    if kind == "linear":
        return torch.linspace(start, end, count)
    if kind == "scaled_linear":
        return torch.linspace(start**0.5, end**0.5, count) ** 2
    if kind == "squaredcos_cap_v2":
        return cosine_betas(count)
    if kind == "sigmoid":
        return torch.sigmoid(torch.linspace(-6, 6, count)) * (end - start) + start
    raise ValueError(f"the scheduler's beta_schedule {kind!r} is not supported")


def with_zero_terminal_snr(table: Tensor) -> Tensor:
    """The table of Lin et al. 2024, algorithm 1, which ends in next to no signal."""
    root = table.sqrt()
    table = ((root - root[-1]) * (root[0] / (root[0] - root[-1]))) ** 2
    before = float(table[-2])  # of linear betas below that least value
    table[-1] = LEAST_ALPHA_CUMPROD if before > LEAST_ALPHA_CUMPROD else before / 2
    return table


def alphas_cumprod(config: dict[str, Any]) -> Tensor:
    """alphas_cumprod [M], falling, of a scheduler's config."""
    name = str(config.get("_class_name", ""))
    if name.startswith(OTHER_KINDS):
        raise ValueError(f"the scheduler {name} is not supported: its noise levels are no table of betas")
    table = (1 - betas(config)).cumprod(0)
    if config.get("rescale_betas_zero_snr"):
        table = with_zero_terminal_snr(table)
    if len(table) < 2 or not (float(table[-1]) > 0 and float(table[0]) < 1 and bool((table.diff() < 0).all())):
        raise ValueError("the scheduler's betas make no falling table of noise levels between 0 and 1")
    return table


def prediction_type(config: dict[str, Any]) -> str:
    """What the network predicts."""
    kind = config.get("prediction_type", "epsilon")
    if kind not in PREDICTIONS:
        raise ValueError(f"the scheduler's prediction_type {kind!r} is not one of {', '.join(PREDICTIONS)}")
    return kind
