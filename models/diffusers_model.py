"""Pipelines of diffusers as models: a folder's scheduler, network, decoder and text encoders as one module."""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from archive import blamed
from autoencoder import FirstStage, latent_fact, upscaling
from contract import make_facts
from diffusers_config import DEFAULTS
from diffusers_decoder import build_decoder, latent_scaling
from diffusers_dit import CLASSES, Transformer, build_dit
from diffusers_folder import CONFIG, Folder, half_precision
from diffusers_schedule import alphas_cumprod, flow_shift, prediction_type
from diffusers_text import read_text
from diffusers_unet import Unet, build_unet
from ldm import NoiseTable, TableTime

UNETS = ("UNet2DModel", "UNet2DConditionModel")
AUTOENCODERS = ("AutoencoderKL", "VQModel")


class FlowTime(nn.Module):
    """The time of a flow model at s, 0 to `count`."""

    def __init__(self, count: int):
        super().__init__()
        self.count = count

    def forward(self, sigma: Tensor) -> Tensor:
        return sigma * self.count


class Denoiser(nn.Module):
    """D(x; sigma) of a network that predicts the noise, v or the image at a x, a = 1 / sqrt(1 + sigma^2).

    D = x - sigma eps, D = a (a x - sigma v), or the prediction itself. Of a flow model the velocity at x. Of more
    outputs than channels (a learned variance behind) the first count.
    """

    def __init__(self, network: nn.Module, time: nn.Module, prediction: str):
        super().__init__()
        self.network = network
        self.time = time
        self.prediction = prediction

    def forward(self, x: Tensor, sigma: Tensor, condition: Tensor | None = None) -> Tensor:
        time = self.time(sigma).to(x.dtype)
        if self.prediction == "flow":
            return self.network(x, time, condition)[:, : x.shape[1]].to(x.dtype)
        sigma = sigma.to(x.dtype)[:, None, None, None]
        a = 1 / (1 + sigma**2).sqrt()
        predicted = self.network(a * x, time, condition)[:, : x.shape[1]].to(x.dtype)
        if self.prediction == "sample":
            return predicted
        return x - sigma * predicted if self.prediction == "epsilon" else a * (a * x - sigma * predicted)


class LatentDenoiser(Denoiser):
    """A denoiser of latents: its decoder is given latent * scale + shift."""

    def __init__(self, denoiser: tuple[Any, ...], first_stage: FirstStage, scaling: tuple[Tensor, Tensor]):
        super().__init__(*denoiser)
        self.first_stage = first_stage
        self.register_buffer("scale", scaling[0])
        self.register_buffer("shift", scaling[1])

    @torch.jit.export
    def decode(self, latent: Tensor) -> Tensor:
        return self.first_stage(latent * self.scale + self.shift)


class TextDenoiser(LatentDenoiser):
    """The same with a text condition: the states that encode_text makes of tokens."""

    def __init__(self, text_encoder: nn.Module, *decoding: Any):
        super().__init__(*decoding)
        self.text_encoder = text_encoder

    @torch.jit.export
    def encode_text(self, tokens: Tensor) -> Tensor:
        return self.text_encoder(tokens)


def read_time(scheduler: dict[str, Any], prediction: str | None) -> tuple[nn.Module, str, dict[str, Any]]:
    """The clock, what is predicted, and the facts of the noise levels; `prediction` is the option, which rules."""
    scheduler = scheduler | ({"prediction_type": prediction} if prediction else {})
    shift = flow_shift(scheduler)
    if shift is not None:
        if scheduler.get("use_dynamic_shifting"):
            print(f"export: the scheduler shifts by the size of the image; shift {shift} is taken", file=sys.stderr)
        count = int(scheduler.get("num_train_timesteps", 1000))
        facts = {"sigma_min": 1 / count, "sigma_max": 1.0, "noise": {"kind": "flow", "shift": shift}}
        return FlowTime(count), "flow", facts
    table = alphas_cumprod(scheduler)
    noise = NoiseTable(table)
    facts = {
        "sigma_min": noise.sigma(1 / len(table)),
        "sigma_max": noise.sigma(1.0),
        "noise": {"kind": "table", "alphas_cumprod": table.double().tolist()},
    }
    return TableTime(noise), prediction_type(scheduler), facts


def state_size(config: dict[str, Any], given: int | None) -> int:
    """Height and width of the state: the option, or sample_size; networks on other than squares are not supported."""
    size = config.get("sample_size")
    if isinstance(size, list) and len(set(size)) == 1:
        size = size[0]
    if not given and (type(size) is not int or size < 1):
        raise ValueError(f"the network's config has the sample_size {size}: give --resolution, of the state")
    return given or size


def label_facts(config: dict[str, Any]) -> dict[str, Any]:
    """The facts of a network with class labels. A transformer has a null class: labels of zeros."""
    form = "onehot" if "num_embeds_ada_norm" in config else "index"
    count = config.get("num_embeds_ada_norm") or config.get("num_class_embeds")
    return {"condition": "label", "label_dim": count, "label_format": form} if count else {}


def check_channels(config: dict[str, Any]) -> int:
    """The channels of the state. Networks that see more than the state are refused."""
    takes = config["in_channels"]
    makes = takes if config["out_channels"] is None else config["out_channels"]
    for key, value in (("in_channels", takes), ("out_channels", makes)):
        if type(value) is not int or value < 1:
            raise ValueError(f"{key} {value!r} of the config is not a number of channels")
    if makes not in (takes, 2 * takes):
        what = "an inpainting model" if takes == 9 else "a network that sees an image, such as an upscaler"
        raise ValueError(f"the network takes {takes} channels and makes {makes}: {what}; not supported")
    return takes


def read_model(name: str, files: list[Path], sizes: Any) -> tuple[nn.Module, dict[str, Any]]:
    """The model of a folder, and its facts. A second source is the autoencoder of a network that stands alone."""
    with blamed(files[0]):
        return read_folder(name, files, sizes)


def read_folder(name: str, files: list[Path], sizes: Any) -> tuple[nn.Module, dict[str, Any]]:
    folder = Folder(files[0], sizes.variant)
    network_part = folder.network()
    kind = network_part.expect(*UNETS, *CLASSES)
    config = DEFAULTS[kind] | network_part.config
    first_text, second_text = folder.has("text_encoder"), folder.has("text_encoder_2")
    if folder.index.get("requires_aesthetics_score") or (second_text and not first_text):
        raise ValueError(f"{folder.root} is the refiner of Stable Diffusion XL, which sees an image: not supported")
    with blamed(network_part.folder / CONFIG):
        channels, resolution = check_channels(config), state_size(config, sizes.resolution)
    state = network_part.weights()
    with blamed(folder.root / "scheduler"):
        time, prediction, noise_facts = read_time(folder.scheduler(), sizes.prediction_type)
    facts: dict[str, Any] = noise_facts | label_facts(config)
    parts, text_encoder, decoding = [network_part], None, ()
    name_of_decoder = next((part for part in ("vae", "vqvae") if folder.has(part)), None)
    if name_of_decoder and len(files) == 2:
        raise ValueError(f"{folder.root} has its own {name_of_decoder}: leave {files[1]} out")
    decoder = Folder(files[1]).component("vae") if len(files) == 2 else None
    decoder = folder.component(name_of_decoder) if name_of_decoder else decoder
    if decoder:
        decoder_kind = decoder.expect(*AUTOENCODERS)
        with blamed(decoder.folder):
            stage = build_decoder(decoder.config, decoder.weights())
        takes = decoder.config.get("latent_channels", 4 if decoder_kind == "AutoencoderKL" else 3)
        if takes != channels:
            raise ValueError(f"the network makes {channels} channels, the decoder takes {takes}")
        decoding = stage, latent_scaling(decoder.config, channels)
        facts["latent"] = latent_fact(stage, resolution)
        parts.append(decoder)
    if first_text:
        if not decoder:
            raise ValueError(f"{folder.root} has a text encoder and no vae: not supported")
        text_encoder, facts["text"], encoders = read_text(folder)
        facts["condition"] = "text"
        parts += encoders
    source = {key: value for part in parts for key, value in part.sources().items()}
    precision = half_precision(state) or ("float16" if decoder else "float32")
    facts |= {"dataset_name": name, "resolution": resolution, "channels": channels, "precision": precision}
    with blamed(network_part.folder):
        network: Unet | Transformer = (
            build_unet(config, state, upscaling(decoding[0]) if decoding else 1)
            if kind in UNETS
            else build_dit(config, state, resolution)
        )
    if network.multiple and resolution % network.multiple == 0:
        facts["sizes"] = {"multiple": network.multiple}
    denoiser = network, time, prediction
    if text_encoder:
        model: nn.Module = TextDenoiser(text_encoder, denoiser, *decoding)
    else:
        model = LatentDenoiser(denoiser, *decoding) if decoder else Denoiser(*denoiser)
    return model, make_facts(**facts, source=source)
