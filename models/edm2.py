"""EDM2's pickles (Karras et al. 2024, "Analyzing and Improving the Training Dynamics of Diffusion Models").

A magnitude-preserving U-Net in EDM's preconditioning. Each pickle holds one average of the weights. A second one is the
weaker network of guidance (Karras et al. 2024, "Guiding a Diffusion Model with a Bad Version of Itself"); a checkpoint
of another kind is the decoder of the latent models.
"""

import math
import struct
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from archive import blamed
from autoencoder import latent_fact
from contract import make_facts, sources
from diffusers_decoder import read_decoder
from diffusers_folder import is_folder_source
from edm2_unet import MagnitudeUNet
from preconditioning import EdmDenoiser
from safe_load import Record, load
from state_dict import StateDict, check_numbers, load_strictly, state_of

SIGMA_MIN, SIGMA_MAX = 0.002, 80.0  # of the original's sampler; the pickles hold none


class FourierFeatures(nn.Module):
    """sqrt(2) cos(frequency c + phase) of a noise label c: [B] -> [B, n]."""

    def __init__(self, frequencies: Tensor, phases: Tensor):
        super().__init__()
        self.register_buffer("frequencies", frequencies)
        self.register_buffer("phases", phases)

    def forward(self, label: Tensor) -> Tensor:
        return (label[:, None] * self.frequencies.to(label.dtype) + self.phases.to(label.dtype)).cos() * math.sqrt(2)


class Edm2Denoiser(EdmDenoiser):
    """The contract's module; for a latent model with the decoder of latents scale z + bias."""

    def __init__(self, network: nn.Module, features: nn.Module, label_dim: int, sigma_data: float):
        super().__init__(network, features, label_dim, sigma_data)
        self.first_stage: nn.Module = nn.Identity()
        self.register_buffer("latent_scale", torch.ones(1))
        self.register_buffer("latent_bias", torch.zeros(1))

    @torch.jit.export
    def decode(self, latent: Tensor) -> Tensor:
        raw = (latent - self.latent_bias[:, None, None]) / self.latent_scale[:, None, None]
        return 2 * self.first_stage(raw) - 1  # this autoencoder is used on images in [0, 1]


class AutoguidedDenoiser(Edm2Denoiser):
    """With a weaker network beside it, of the same preconditioning."""

    def __init__(self, main: Edm2Denoiser, guide: Edm2Denoiser):
        super().__init__(main.network, main.noise_features, main.label_dim, main.sigma_data)
        self.guide_network, self.guide_features = guide.network, guide.noise_features

    @torch.jit.export
    def guide(self, x: Tensor, sigma: Tensor, condition: Tensor | None = None) -> Tensor:
        if condition is None and self.label_dim > 0:
            condition = torch.zeros([x.shape[0], self.label_dim], dtype=x.dtype, device=x.device)
        c_skip, c_out, c_in, label = self.scalings(sigma.to(x.dtype))
        return c_skip * x + c_out * self.guide_network(c_in * x, self.guide_features(label), condition).to(x.dtype)


def gain_of(name: str) -> str:
    """The name of a weight's learned gain; `name` itself for one without."""
    return name.replace(".emb_linear.weight", ".emb_gain").replace("out_conv.weight", "out_gain")


def plain_weights(state: StateDict) -> StateDict:
    """The U-Net's weights as the original applies them: each output's at unit magnitude (equations 47, 66), times its
    gain."""
    weights, gains = {}, {gain_of(name) for name in state.entries if gain_of(name) != name}
    for name, value in state.entries.items():
        if name in gains or name.endswith("_gain"):
            weights |= {} if name in gains else {name: value}  # a gain of no weight is surplus
            continue
        shape, gain = state.shape(name, 2, 4), 1.0
        fan_in = math.prod(shape[1:])
        if name == "emb_label.weight":
            gain = math.sqrt(fan_in)  # for one-hot labels, brought to unit magnitude
        elif gain_of(name) in gains:
            if state.shape(gain_of(name)) != ():
                found = list(state.shape(gain_of(name)))
                raise ValueError(f"{gain_of(name)} of the checkpoint is {found} instead of one number")
            gain = float(state.entries[gain_of(name)])
        norm = torch.linalg.vector_norm(value.float().flatten(1), dim=1) / math.sqrt(fan_in) + 1e-4
        weights[name] = value.float() / norm.reshape(-1, *[1] * (len(shape) - 1)) * (gain / math.sqrt(fan_in))
    return StateDict(weights)


def build_denoiser(precond: Record) -> Edm2Denoiser:
    """The denoiser of a pickled Precond. Its head for the uncertainty (logvar) serves training alone."""
    unet = precond.state["_modules"]["unet"]
    network = MagnitudeUNet(*unet.state.get("_init_args", ()), **unet.state["_init_kwargs"])
    state = state_of(unet)
    check_numbers(StateDict(state))
    fourier = [state.pop(f"emb_fourier.{name}", None) for name in ("freqs", "phases")]
    count = network.emb_noise.in_features
    if any(not isinstance(value, Tensor) or value.shape != (count,) for value in fourier):
        raise ValueError(f"emb_fourier.freqs and emb_fourier.phases of the checkpoint are not {count} numbers each")
    weights = plain_weights(StateDict(state))
    weights.entries |= {name: value for name, value in network.state_dict().items() if "resample_filter" in name}
    features = FourierFeatures(*(value.float() for value in fourier))
    label_dim, sigma_data = int(precond.state["label_dim"]), float(precond.state["sigma_data"])
    return Edm2Denoiser(load_strictly(network, weights), features, label_dim, sigma_data)


def numbers(record: Any) -> Tensor:
    """A pickled NumPy array of float32."""
    _, shape, kind, _, content = record.state
    if kind.args[0] != "f4" or len(content) != 4 * math.prod(shape):
        raise ValueError("the encoder's scale and bias are not float32")
    return torch.tensor(struct.unpack(f"<{math.prod(shape)}f", content))


def add_decoder(model: Edm2Denoiser, encoder: Record, source: Path, channels: int) -> dict[str, str]:
    """Gives a latent model its decoder; returns the decoder's sources."""
    model.first_stage, read = read_decoder(source, channels)
    model.latent_scale, model.latent_bias = numbers(encoder.state["scale"]), numbers(encoder.state["bias"])
    if {model.latent_scale.numel(), model.latent_bias.numel()} != {channels}:
        raise ValueError(f"the encoder's scale and bias are not {channels} numbers each")
    return read


def read_model(name: str, files: list[Path], sizes: Any = None) -> tuple[nn.Module, dict[str, Any]]:
    """The pickle of the network, then those of its guide and of a latent model's decoder, in any order."""
    pickles, decoder = [], None
    for file in files:
        content = None if is_folder_source(file) else load(file)
        precond = content.get("ema") if isinstance(content, dict) else None
        if isinstance(precond, Record) and precond.class_name == "Precond":
            pickles.append((file, content))
        elif pickles and not decoder:
            decoder = file
        else:
            found = precond.class_name if isinstance(precond, Record) else type(content).__name__
            raise ValueError(f"{file}: expected EDM2's pickled Precond, found {found if content else 'a folder'}")
    if len(pickles) > 2:
        raise ValueError(f"{pickles[2][0]}: a third network; one and its guide are taken")
    model, facts = read_content(name, pickles, decoder, sizes)
    facts["source"] = sources(*(file for file, _ in pickles)) | facts["source"]
    return model, facts


def read_content(
    name: str, pickles: list[tuple[Path, dict[str, Any]]], decoder: Path | None, sizes: Any
) -> tuple[nn.Module, dict[str, Any]]:
    """The same from what safe_load found in the pickles."""
    states, models = [], []
    for file, content in pickles:
        with blamed(file):
            states.append(content["ema"].state)
            models.append(build_denoiser(content["ema"]))
    (file, content), model = pickles[0], models[0]
    with blamed(file):
        resolution, channels = int(states[0]["img_resolution"]), int(states[0]["img_channels"])
        if sizes and sizes.resolution not in (None, resolution):
            raise ValueError(f"--resolution {sizes.resolution} does not fit a model of {resolution} pixels a side")
        encoder = content.get("encoder")
        kind = encoder.class_name if isinstance(encoder, Record) else "StandardRGBEncoder"
        if kind not in ("StandardRGBEncoder", "StabilityVAEEncoder"):
            raise ValueError(f"its images are encoded by {kind}, which is not known")
        if kind == "StabilityVAEEncoder" and not decoder:
            raise ValueError("its states are latents: give Stable Diffusion's autoencoder as well, a file or a folder")
        if kind == "StandardRGBEncoder" and decoder:
            raise ValueError(f"its states are images, so it has no use for a decoder ({decoder})")
    for (guide_file, _), state, guide in zip(pickles[1:], states[1:], models[1:]):
        with blamed(guide_file):
            if (state["img_resolution"], state["img_channels"]) != (resolution, channels):
                raise ValueError(
                    f"the guide is of {state['img_channels']}x{state['img_resolution']}x{state['img_resolution']} "
                    f"states, the network of {channels}x{resolution}x{resolution}"
                )
            if guide.sigma_data != model.sigma_data or guide.label_dim not in (0, model.label_dim):
                raise ValueError("the guide's labels or sigma_data are others than the network's")
        model = AutoguidedDenoiser(model, guide)
    with blamed(file):
        source = add_decoder(model, encoder, decoder, channels) if decoder else {}
    facts = make_facts(
        dataset_name=name,
        resolution=resolution,
        channels=channels,
        sigma_min=SIGMA_MIN,
        sigma_max=SIGMA_MAX,
        label_dim=model.label_dim,
        condition="label" if model.label_dim else "none",
        label_format="onehot" if model.label_dim else None,
        precision="float16" if states[0].get("use_fp16") else "bfloat16",
        latent=latent_fact(model.first_stage, resolution) if decoder else None,
        guide=len(pickles) == 2,
        source=source,
    )
    return model, facts
