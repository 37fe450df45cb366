"""EDM2's pickles (Karras et al. 2024, "Analyzing and Improving the Training Dynamics of Diffusion Models").

A magnitude-preserving U-Net in EDM's preconditioning. What the original computes at every call of its weights, the
forced normalisation (equations 47 and 66) and the learned gains, is done here once, so that the layers are plain ones.
A second pickle is the weaker network of guidance (Karras et al. 2024, "Guiding a Diffusion Model with a Bad Version of
Itself"); a checkpoint of another kind is the decoder of the latent models.
"""

import math
import struct
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from archive import load_checkpoint
from autoencoder import build_first_stage, latent_fact
from contract import make_facts, sources
from edm_blocks import Conv2d
from preconditioning import EdmDenoiser
from safe_load import Record, load
from state_dict import StateDict, load_strictly, state_of

SIGMA_MIN, SIGMA_MAX = 0.002, 80.0  # of the original's sampler; the pickles hold none


def mp_silu(x: Tensor) -> Tensor:
    return F.silu(x) / 0.596


def mp_sum(a: Tensor, b: Tensor, t: float) -> Tensor:
    return torch.lerp(a, b, t) / math.sqrt((1 - t) ** 2 + t**2)


def pixel_norm(x: Tensor, dim: int) -> Tensor:
    """x with a root mean square of 1 along `dim`."""
    return x / (1e-4 + torch.linalg.vector_norm(x, dim=dim, keepdim=True) / math.sqrt(x.shape[dim]))


def convolution(channels: int, out_channels: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(channels, out_channels, kernel, padding=kernel // 2, bias=False)


class Block(nn.Module):
    """A residual block of the encoder or the decoder, with self-attention where there are heads."""

    __constants__ = ["decodes", "num_heads"]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        emb_channels: int,
        flavor: str,
        mode: str = "keep",
        attention: bool = False,
        resample_filter: tuple[int, ...] = (1, 1),
        channels_per_head: int = 64,
        res_balance: float = 0.3,
        attn_balance: float = 0.3,
        clip_act: float | None = 256,
    ):
        super().__init__()
        self.decodes = flavor == "dec"
        self.num_heads = out_channels // channels_per_head if attention else 0
        self.res_balance, self.attn_balance = float(res_balance), float(attn_balance)
        self.limit = math.inf if clip_act is None else float(clip_act)
        resamples = Conv2d(1, 1, 0, mode == "up", mode == "down", tuple(resample_filter))
        self.resample = nn.Identity() if mode == "keep" else resamples
        self.conv_res0 = convolution(in_channels if self.decodes else out_channels, out_channels, 3)
        self.emb_linear = nn.Linear(emb_channels, out_channels, bias=False)
        self.conv_res1 = convolution(out_channels, out_channels, 3)
        same = in_channels == out_channels
        self.conv_skip = nn.Identity() if same else convolution(in_channels, out_channels, 1)
        self.attn_qkv = convolution(out_channels, 3 * out_channels, 1) if self.num_heads else nn.Identity()
        self.attn_proj = convolution(out_channels, out_channels, 1) if self.num_heads else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        x = self.resample(x)
        if not self.decodes:
            x = pixel_norm(self.conv_skip(x), 1)
        y = self.conv_res0(mp_silu(x)) * (self.emb_linear(emb) + 1)[:, :, None, None]
        y = self.conv_res1(mp_silu(y))
        x = mp_sum(self.conv_skip(x) if self.decodes else x, y, self.res_balance)
        if self.num_heads > 0:
            x = mp_sum(x, self.attn_proj(self.attend(self.attn_qkv(x))), self.attn_balance)
        return x.clamp(-self.limit, self.limit)

    def attend(self, qkv: Tensor) -> Tensor:
        """Cosine attention over the pixels; the channels of qkv are (head, d, three)."""
        b, channels, height, width = qkv.shape
        parts = qkv.reshape(b, self.num_heads, channels // (3 * self.num_heads), 3, height * width)
        q, k, v = pixel_norm(parts, 2).permute(3, 0, 1, 4, 2).contiguous().unbind(0)
        a = F.scaled_dot_product_attention(q, k, v)
        return a.transpose(2, 3).reshape(b, channels // 3, height, width)


class Entry(nn.Conv2d):
    """The encoder's first layer, called as its blocks are."""

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight, self.bias)


class MagnitudeUNet(nn.Module):
    """The U-Net (Figure 21). `forward` takes the Fourier features of the noise level and one-hot labels."""

    __constants__ = ["labelled"]

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int,
        model_channels: int = 192,
        channel_mult: tuple[int, ...] = (1, 2, 3, 4),
        channel_mult_noise: int | None = None,
        channel_mult_emb: int | None = None,
        num_blocks: int = 3,
        attn_resolutions: tuple[int, ...] = (16, 8),
        label_balance: float = 0.5,
        concat_balance: float = 0.5,
        dropout: float = 0,
        **style: Any,
    ):
        super().__init__()
        widths = [model_channels * multiple for multiple in channel_mult]
        noise = model_channels * (channel_mult_noise or channel_mult[0])
        emb = model_channels * channel_mult_emb if channel_mult_emb else max(widths)
        self.label_balance, self.concat_balance = float(label_balance), float(concat_balance)
        self.labelled = label_dim > 0
        self.emb_noise = nn.Linear(noise, emb, bias=False)
        self.emb_label = nn.Linear(label_dim, emb, bias=False) if label_dim else nn.Identity()
        first = f"{img_resolution}x{img_resolution}_conv"
        encoder: dict[str, nn.Module] = {first: Entry(img_channels + 1, widths[0], 3, padding=1, bias=False)}
        decoder: dict[str, nn.Module] = {}
        width, skips = widths[0], [widths[0]]
        for level, out in enumerate(widths):
            size = img_resolution >> level
            if level:
                encoder[f"{size}x{size}_down"] = Block(width, width, emb, "enc", "down", **style)
                skips.append(width)
            for i in range(num_blocks):
                encoder[f"{size}x{size}_block{i}"] = Block(
                    width, out, emb, "enc", attention=size in attn_resolutions, **style
                )
                width = out
                skips.append(width)
        for level, out in reversed(list(enumerate(widths))):
            size = img_resolution >> level
            if level == len(widths) - 1:
                decoder[f"{size}x{size}_in0"] = Block(width, width, emb, "dec", attention=True, **style)
                decoder[f"{size}x{size}_in1"] = Block(width, width, emb, "dec", **style)
            else:
                decoder[f"{size}x{size}_up"] = Block(width, width, emb, "dec", "up", **style)
            for i in range(num_blocks + 1):
                decoder[f"{size}x{size}_block{i}"] = Block(
                    width + skips.pop(), out, emb, "dec", attention=size in attn_resolutions, **style
                )
                width = out
        self.enc, self.dec = nn.ModuleDict(encoder), nn.ModuleDict(decoder)
        self.out_conv = convolution(width, img_channels, 3)

    def forward(self, x: Tensor, noise: Tensor, condition: Tensor | None) -> Tensor:
        x, emb = x.to(self.out_conv.weight.dtype), self.emb_noise(noise.to(self.out_conv.weight.dtype))
        if self.labelled:
            assert condition is not None
            emb = mp_sum(emb, self.emb_label(condition.to(emb.dtype)), self.label_balance)
        emb = mp_silu(emb)
        x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
        skips: list[Tensor] = []
        for layer in self.enc.values():
            x = layer(x, emb)
            skips.append(x)
        for name, layer in self.dec.items():
            if "block" in name:
                x = self.joined(x, skips.pop())
            x = layer(x, emb)
        return self.out_conv(x)

    def joined(self, x: Tensor, skip: Tensor) -> Tensor:
        """Both in one tensor, weighed by concat_balance whatever their numbers of channels (equation 103)."""
        t, a, b = self.concat_balance, x.shape[1], skip.shape[1]
        whole = math.sqrt((a + b) / ((1 - t) ** 2 + t**2))
        return torch.cat([whole / math.sqrt(a) * (1 - t) * x, whole / math.sqrt(b) * t * skip], 1)


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


def normalized(state: StateDict, name: str, gain: float) -> Tensor:
    """The weight as the original applies it: each output's to unit magnitude, times its gain."""
    shape = state.shape(name, 2, 4)
    weight, fan_in = state.entries[name].float(), math.prod(shape[1:])
    norm = torch.linalg.vector_norm(weight.flatten(1), dim=1) / math.sqrt(fan_in) + 1e-4
    return weight / norm.reshape(-1, *[1] * (len(shape) - 1)) * (gain / math.sqrt(fan_in))


def plain_weights(state: StateDict) -> StateDict:
    """The U-Net's weights with normalisation and gains in them."""

    def number(name: str) -> float:
        if state.shape(name) != ():
            raise ValueError(f"{name} of the checkpoint is {list(state.shape(name))} instead of one number")
        return float(state.entries[name])

    weights = {}
    for name in state.entries:
        gain = 1.0
        if name.endswith(".emb_linear.weight"):
            gain = number(name.replace("emb_linear.weight", "emb_gain"))
        elif name == "out_conv.weight":
            gain = number("out_gain")
        elif name == "emb_label.weight":
            gain = math.sqrt(state.shape(name, 2)[1])  # of one-hot labels of unit magnitude
        elif name.endswith(".emb_gain") or name == "out_gain":
            continue
        weights[name] = normalized(state, name, gain)
    return StateDict(weights)


def build_denoiser(precond: Record) -> Edm2Denoiser:
    """The denoiser of a pickled Precond. Its head for the uncertainty (logvar) serves training alone."""
    unet = precond.state["_modules"]["unet"]
    arguments = dict(unet.state["_init_kwargs"])
    network = MagnitudeUNet(*unet.state.get("_init_args", ()), **arguments)
    state = state_of(unet)
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


def add_decoder(model: Edm2Denoiser, encoder: Record, channels: int, file: Path) -> None:
    model.first_stage = build_first_stage(StateDict(load_checkpoint(file)))
    model.latent_scale, model.latent_bias = numbers(encoder.state["scale"]), numbers(encoder.state["bias"])
    takes = model.first_stage.post_quant_conv.in_channels
    if {takes, model.latent_scale.numel(), model.latent_bias.numel()} != {channels}:
        raise ValueError(f"{file}: a decoder of {takes} channels does not fit a network of {channels}")


def read_model(name: str, files: list[Path], sizes: Any = None) -> tuple[nn.Module, dict[str, Any]]:
    """The pickle of the network, then those of its guide and of a latent model's decoder, in any order."""
    pickles, decoder = [], None
    for file in files:
        content = load(file)
        precond = content.get("ema") if isinstance(content, dict) else None
        if isinstance(precond, Record) and precond.class_name == "Precond":
            pickles.append((file, content))
        elif not pickles or decoder:
            found = precond.class_name if isinstance(precond, Record) else type(content).__name__
            raise ValueError(f"{file}: expected EDM2's pickled Precond, found {found}")
        else:
            decoder = file
        del content
    if len(pickles) > 2:
        raise ValueError(f"{pickles[2][0]}: a third network; one and its guide are taken")
    try:
        return read_content(name, [content for _, content in pickles], decoder, sizes, sources(*files))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{files[0]}: no EDM2 model ({type(error).__name__}: {error})") from error
    except ValueError as error:
        raise ValueError(f"{files[0]}: {error}") from error


def read_content(
    name: str, contents: list[dict[str, Any]], decoder: Path | None, sizes: Any, source: dict[str, str]
) -> tuple[nn.Module, dict[str, Any]]:
    """The same from what safe_load found in the pickles."""
    main, encoder = contents[0]["ema"], contents[0].get("encoder")
    resolution, channels = int(main.state["img_resolution"]), int(main.state["img_channels"])
    if sizes and sizes.resolution not in (None, resolution):
        raise ValueError(f"--resolution {sizes.resolution} does not fit a model of {resolution} pixels a side")
    model = build_denoiser(main)
    if len(contents) == 2:
        guide, other = build_denoiser(contents[1]["ema"]), contents[1]["ema"].state
        if (other["img_resolution"], other["img_channels"]) != (resolution, channels):
            raise ValueError(f"the guide is of {other['img_channels']}x{other['img_resolution']}x... states")
        if guide.sigma_data != model.sigma_data or guide.label_dim not in (0, model.label_dim):
            raise ValueError("the guide's labels or sigma_data are others than the network's")
        model = AutoguidedDenoiser(model, guide)
    latent = None
    kind = encoder.class_name if isinstance(encoder, Record) else "StandardRGBEncoder"
    if kind not in ("StandardRGBEncoder", "StabilityVAEEncoder"):
        raise ValueError(f"its images are encoded by {kind}, which is not known")
    if (kind == "StabilityVAEEncoder") != (decoder is not None):
        wants = (
            "needs a checkpoint of Stable Diffusion's autoencoder" if decoder is None else "has no use for a decoder"
        )
        raise ValueError(f"the model, of {channels} channels, {wants}")
    if decoder:
        add_decoder(model, encoder, channels, decoder)
        latent = latent_fact(model.first_stage, resolution)
    facts = make_facts(
        dataset_name=name,
        resolution=resolution,
        channels=channels,
        sigma_min=SIGMA_MIN,
        sigma_max=SIGMA_MAX,
        label_dim=model.label_dim,
        condition="label" if model.label_dim else "none",
        label_format="onehot" if model.label_dim else None,
        precision="float16" if main.state.get("use_fp16") else "bfloat16",
        latent=latent,
        guide=len(contents) == 2,
        source=source,
    )
    return model, facts
