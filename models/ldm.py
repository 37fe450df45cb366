"""Latent diffusion models as denoisers: the noise table, the preconditioning, and how a checkpoint is taken apart.

Latent Diffusion (Rombach et al. 2022) and Stable Diffusion predict the noise of x / sqrt(1 + sigma^2) at a step of a
table of M noise levels; here they are D(x; sigma) = x - sigma eps(x / sqrt(1 + sigma^2); M u(sigma) - 1).
"""

import re
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from archive import load_checkpoint
from autoencoder import FirstStage, ScaledLatents, build_first_stage, latent_fact
from contract import make_facts, sources
from ldm_unet import LatentUnet
from preconditioning import NoiseFeatures, geometric_frequencies
from safe_load import some
from state_dict import StateDict
from unet_reader import Heads, build_unet, heads_of

HEAD_CHANNELS = 32  # of an attention head, as published; the weights do not tell
LATENT_RESOLUTION = 64  # of every published model; the weights fit any


class NoiseTable(nn.Module):
    """u(sigma): ln a(u) is linear between ln a((m + 1) / M) = ln(alphas_cumprod[m]) / 2 and beyond both ends."""

    def __init__(self, alphas_cumprod: Tensor):
        super().__init__()
        self.register_buffer("log_alpha", alphas_cumprod.double().log() / 2)  # [M], falling

    def forward(self, sigma: Tensor) -> Tensor:
        """u [B] of sigma [B], in float64 whatever the dtype of sigma."""
        table = self.log_alpha.double()  # whatever the module was cast to
        count = table.shape[0]
        log_alpha = -torch.log1p(sigma.double() ** 2) / 2
        right = torch.searchsorted(-table, -log_alpha.detach()).clamp(1, count - 1)
        low, high = table[right - 1], table[right]
        return (right + (log_alpha - low) / (high - low)) / count

    def time(self, sigma: Tensor) -> Tensor:
        """The step of sigma [B] in the table, 0 to M - 1, and between its entries."""
        return self.forward(sigma) * self.log_alpha.shape[0] - 1

    def sigma(self, u: float) -> float:
        """The noise level of u."""
        count = self.log_alpha.shape[0]
        right = min(max(int(u * count), 1), count - 1)
        low, high = self.log_alpha[right - 1], self.log_alpha[right]
        log_alpha = low + (u * count - right) * (high - low)
        return float(torch.expm1(-2 * log_alpha).sqrt())


class TableTime(nn.Module):
    """The time that a network is told, where that is the step in a table."""

    def __init__(self, noise: NoiseTable):
        super().__init__()
        self.noise = noise

    def forward(self, sigma: Tensor) -> Tensor:
        return self.noise.time(sigma).to(sigma.dtype)


def linear_noise_table(start: float, end: float, count: int = 1000) -> Tensor:
    """alphas_cumprod of the schedule called linear there: the square roots of beta are evenly spaced."""
    beta = torch.linspace(start**0.5, end**0.5, count, dtype=torch.float64) ** 2
    return (1 - beta).cumprod(0)


class LatentDenoiser(ScaledLatents):
    """The contract's module for an unconditional latent model, or one with a context.

    Of a network that predicts v: D = a (a x - sigma v), a = 1 / sqrt(1 + sigma^2).
    """

    def __init__(
        self, network: LatentUnet, first_stage: FirstStage, noise: NoiseTable, scale_factor: float,
        prediction: str = "epsilon"
    ):  # fmt: skip
        super().__init__()
        takes, makes = network.input_blocks[0][0].in_channels, network.out[-1].out_channels
        if takes != makes:
            raise ValueError(
                f"the U-Net takes {takes} channels and makes {makes}: inpainting and other models that see an image "
                "are not supported"
            )
        self.network = network
        self.first_stage = first_stage
        self.noise = noise
        self.predicts_noise = prediction == "epsilon"
        self.scale_factor = scale_factor  # of the latents' spread: they are divided by it before decoding
        channels = network.time_embed[0].in_features
        self.time_features = NoiseFeatures(geometric_frequencies(channels // 2))
        self.padding = channels % 2

    def forward(self, x: Tensor, sigma: Tensor, condition: Tensor | None = None) -> Tensor:
        time = self.noise.time(sigma)
        features = nn.functional.pad(self.time_features(time.to(x.dtype)), [0, self.padding])
        sigma = sigma.to(x.dtype)[:, None, None, None]
        root = (1 + sigma**2).sqrt()
        scaled = x / root
        predicted = self.network(scaled, features, condition).to(x.dtype)
        return x - sigma * predicted if self.predicts_noise else (scaled - sigma * predicted) / root


# What a checkpoint holds for training and for its own sampler: the noise schedule's tables, the EMA's counters.
NOT_WEIGHTS = {
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
    "lvlb_weights",
    "logvar",
    "scale_factor",
    "model_ema.decay",
    "model_ema.num_updates",
    "denoiser.sigmas",
    "v_pred",
    "ztsnr",
}


class LatentCheckpoint:
    """A diffusion checkpoint of latent-diffusion or stable-diffusion, taken apart by its names."""

    UNET, EMA, FIRST_STAGE, TEXT = "model.diffusion_model", "model_ema", "first_stage_model", "cond_stage_model"
    TEXTS = (TEXT + ".", "conditioner.")

    def __init__(self, state: dict[str, Tensor]):
        self.state = StateDict(state)
        parts = (*(part + "." for part in (self.UNET, self.EMA, self.FIRST_STAGE)), *self.TEXTS)
        unknown = [name for name in state if name not in NOT_WEIGHTS and not name.startswith(parts)]
        if unknown:
            raise ValueError(f"the checkpoint has surplus {some(unknown)}")

    def unet(self) -> StateDict:
        unet = self.state.under(self.UNET)
        if not unet:
            raise ValueError(f"the checkpoint has no entry below {self.UNET}.: not a latent diffusion model")
        return unet

    def ema_unet(self) -> StateDict:
        """The U-Net's averaged weights, under the names of the plain ones; the plain ones where none were saved.

        An average is saved under the plain name without its dots, counted from `diffusion_model`.
        """
        plain, ema = self.unet(), self.state.under(self.EMA)
        if not ema:
            return plain
        twins = {name: "diffusion_model" + name.replace(".", "") for name in plain.entries}
        missing = [ema.path + twin for twin in twins.values() if twin not in ema]
        surplus = sorted(
            ema.path + name for name in set(ema.entries) - set(twins.values()) if ema.path + name not in NOT_WEIGHTS
        )
        if missing or surplus:
            raise ValueError(
                f"averages and plain weights do not pair: missing {some(missing)}, surplus {some(surplus)}"
            )
        return StateDict({name: ema.entries[twin] for name, twin in twins.items()}, plain.path)

    def noise_table(self, start: float, end: float) -> Tensor:
        """alphas_cumprod [M]: the checkpoint's, or that of the linear schedule from `start` to `end`.

        A table rounded to half precision no longer falls everywhere: where it is the linear one, that is taken whole.
        """
        table, linear = self.state.entries.get("alphas_cumprod"), linear_noise_table(start, end)
        if table is None:
            return linear
        rounded = table.dtype in (torch.float16, torch.bfloat16) and table.shape == linear.shape
        return linear if rounded and torch.allclose(table.double(), linear, atol=4e-3) else table

    def scale_factor(self, published: float, given: float | None = None, file: Path | None = None) -> float:
        """The checkpoint's, the one given, that of a config beside `file`, or the published one, which is said."""
        stored = self.state.entries.get("scale_factor")
        if stored is not None:
            factor = float(stored)
            if given is not None and abs(given / factor - 1) > 1e-5:
                raise ValueError(f"--scale_factor {given} is not that of the checkpoint, {factor}")
            return factor
        factor = given if given is not None or file is None else factor_beside(file)
        if factor is None and file is not None:
            print(
                f"export: {file.name} holds no scale_factor and no config beside it does: {published} is taken, as "
                "published; --scale_factor gives another",
                file=sys.stderr,
            )
        return published if factor is None else factor


def factor_beside(file: Path) -> float | None:
    """The constant scale_factor of the YAML files in a checkpoint's folder."""
    line = re.compile(r"^\s*scale_factor\s*:\s*([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*(?:#.*)?$", re.MULTILINE)
    configs = sorted(config for ending in ("yaml", "yml") for config in file.parent.glob(f"*.{ending}"))
    found = {float(value) for config in configs for value in line.findall(config.read_text(errors="replace"))}
    if len(found) > 1:
        raise ValueError(f"the configs beside {file} name the scale factors {some(sorted(found))}: give --scale_factor")
    return next(iter(found), None)


def latent_facts(model: LatentDenoiser, dataset_name: str, resolution: int | None, **more) -> dict:
    """The facts that every latent model shares; `resolution` is the latent's."""
    resolution = resolution or LATENT_RESOLUTION
    table = model.noise
    return make_facts(
        dataset_name=dataset_name,
        resolution=resolution,
        channels=model.network.out[-1].out_channels,
        sigma_min=table.sigma(1e-3),
        sigma_max=table.sigma(1.0),
        noise={"kind": "table", "alphas_cumprod": (2 * table.log_alpha).exp().tolist()},
        latent=latent_fact(model.first_stage, resolution),
        # Published samples were drawn with the network in half precision.
        precision="float16",
        **more,
    )


def read_ldm(
    state: dict[str, Tensor],
    first_stage: dict[str, Tensor] | None = None,
    heads: Heads = Heads(head_channels=HEAD_CHANNELS),
    scale_factor: float | None = None,
    file: Path | None = None,
) -> LatentDenoiser:
    """An unconditional latent diffusion model (lsun_bedroom_ldm, ffhq_ldm), with its averaged weights.

    The checkpoint's own first stage rules; `first_stage` is that of the autoencoder's checkpoint, for one without.
    """
    checkpoint = LatentCheckpoint(state)
    if any(name.startswith(checkpoint.TEXTS) for name in state):
        raise ValueError(
            "the checkpoint has a condition (cond_stage_model): not an unconditional latent diffusion model"
        )
    stage = checkpoint.state.under(checkpoint.FIRST_STAGE) or StateDict(first_stage or {})
    if not stage:
        raise ValueError(
            "the checkpoint has no first stage (first_stage_model): give the autoencoder's checkpoint as well"
        )
    unet = build_unet(checkpoint.ema_unet(), heads)
    table = NoiseTable(checkpoint.noise_table(0.0015, 0.0195))
    return LatentDenoiser(unet, build_first_stage(stage), table, checkpoint.scale_factor(1.0, scale_factor, file))


def read_model(name: str, files: list[Path], sizes: Any) -> tuple[nn.Module, dict[str, Any]]:
    """lsun_bedroom_ldm and ffhq_ldm: the diffusion checkpoint, then the autoencoder's if the first lacks it."""
    diffusion, first_stage = [*(load_checkpoint(file) for file in files), None][:2]
    model = read_ldm(diffusion, first_stage, heads_of(sizes, HEAD_CHANNELS), sizes.scale_factor, files[0])
    return model, latent_facts(model, name, sizes.resolution, source=sources(*files))
