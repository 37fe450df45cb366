"""The layers of diffusers' U-Nets, under its names. Every layer takes (h [B, C, H, W], embedding [B, E], context).

The context is text states [B, T, W] or None. A level without attention holds `Nothing` there: it has no weights.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

from ldm_unet import CrossAttention, TransformerBlock, image_of, tokens_of

ACTIVATIONS = {"silu": nn.SiLU, "swish": nn.SiLU, "mish": nn.Mish, "gelu": nn.GELU, "relu": nn.ReLU}


@dataclass(frozen=True)
class Style:
    """What all residual blocks and attentions of a network share."""

    embedding: int
    groups: int
    eps: float
    scale_shift: bool
    activation: str

    def norm(self, channels: int) -> nn.GroupNorm:
        if channels % self.groups:
            raise ValueError(f"norm_num_groups {self.groups} of the config does not divide {channels} channels")
        return nn.GroupNorm(self.groups, channels, eps=self.eps)


class Nothing(nn.Module):
    def forward(self, h: Tensor, embedding: Tensor, context: Tensor | None) -> Tensor:
        return h


class FourierFeatures(nn.Module):
    """sin and cos of a time [B], or of its logarithm, times stored frequencies: [B, 2 count]."""

    def __init__(self, count: int, cosine_first: bool, log: bool):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count))
        self.cosine_first, self.log = cosine_first, log

    def forward(self, time: Tensor) -> Tensor:
        time = time.float().log() if self.log else time.float()
        angles = time[:, None] * self.weight.float() * 2 * math.pi
        sin, cos = angles.sin(), angles.cos()
        return torch.cat([cos, sin] if self.cosine_first else [sin, cos], 1)


class Embedding(nn.Module):
    """Two linear layers."""

    def __init__(self, channels: int, width: int, activation: str = "silu"):
        super().__init__()
        self.linear_1 = nn.Linear(channels, width)
        self.act = ACTIVATIONS[activation]()
        self.linear_2 = nn.Linear(width, width)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear_2(self.act(self.linear_1(features.to(self.linear_1.weight.dtype))))


class Resnet(nn.Module):
    """(x + f(x, embedding)) / scale, at the resolution to which `resample` takes x."""

    def __init__(
        self,
        channels: int,
        out_channels: int,
        style: Style,
        scale: float = 1.0,
        resample: nn.Module | None = None,
        plain_embedding: bool = False,
    ):
        super().__init__()
        self.norm1 = style.norm(channels)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.time_emb_proj = nn.Linear(style.embedding, out_channels * (2 if style.scale_shift else 1))
        self.norm2 = style.norm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(channels, out_channels, 1) if channels != out_channels else nn.Identity()
        self.act = ACTIVATIONS[style.activation]()
        self.embedding_act = nn.Identity() if plain_embedding else ACTIVATIONS[style.activation]()
        self.resample = resample or nn.Identity()
        self.scale_shift, self.scale = style.scale_shift, float(scale)

    def forward(self, x: Tensor, embedding: Tensor, context: Tensor | None) -> Tensor:
        h = self.conv1(self.resample(self.act(self.norm1(x))))
        modulation = self.time_emb_proj(self.embedding_act(embedding))[:, :, None, None]
        if self.scale_shift:
            scale, shift = modulation.chunk(2, dim=1)
            h = self.norm2(h) * (1 + scale) + shift
        else:
            h = self.norm2(h + modulation)
        return (self.conv_shortcut(self.resample(x)) + self.conv2(self.act(h))) / self.scale


class SelfAttention(nn.Module):
    """(x + attention over the pixels of x) / scale."""

    def __init__(self, channels: int, head_channels: int, norm: nn.Module, scale: float = 1.0):
        super().__init__()
        self.heads = channels // head_channels
        inner = self.heads * head_channels
        self.group_norm = norm
        self.to_q = nn.Linear(channels, inner)
        self.to_k = nn.Linear(channels, inner)
        self.to_v = nn.Linear(channels, inner)
        self.to_out = nn.Sequential(nn.Linear(inner, channels))
        self.scale = float(scale)

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, [self.heads, x.shape[-1] // self.heads]).transpose(1, 2)

    def forward(self, x: Tensor, embedding: Tensor, context: Tensor | None) -> Tensor:
        tokens = tokens_of(self.group_norm(x))
        q, k, v = self.split(self.to_q(tokens)), self.split(self.to_k(tokens)), self.split(self.to_v(tokens))
        attended = scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return (x + image_of(self.to_out(attended), x)) / self.scale


class ContextBlock(TransformerBlock):
    """A transformer block whose first attention sees the context too, not the pixels."""

    def __init__(self, channels: int, inner: int, context_width: int, feed_forward: int, num_heads: int):
        super().__init__(channels, inner, context_width, feed_forward, num_heads)
        self.attn1 = CrossAttention(channels, inner, context_width, num_heads)

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        x = x + self.attn1(self.norm1(x), context)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class Downsample(nn.Module):
    """A convolution that halves the resolution; without padding of its own it pads right and below."""

    def __init__(self, channels: int, padding: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=padding)
        self.padding = [0, 0 if padding else 1, 0, 0 if padding else 1]

    def forward(self, h: Tensor, embedding: Tensor, context: Tensor | None) -> Tensor:
        return self.conv(pad(h, self.padding))


class Upsample(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, h: Tensor, embedding: Tensor, context: Tensor | None) -> Tensor:
        return self.conv(nn.functional.interpolate(h, scale_factor=2.0, mode="nearest"))


class DownLevel(nn.Module):
    """Pairs of residual block and attention, then half the resolution. Each result is also a skip."""

    def __init__(self, resnets: list[nn.Module], attentions: list[nn.Module], downsamplers: list[nn.Module]):
        super().__init__()
        self.resnets, self.attentions = nn.ModuleList(resnets), nn.ModuleList(attentions)
        self.downsamplers = nn.ModuleList(downsamplers)

    def forward(self, h: Tensor, skips: list[Tensor], embedding: Tensor, context: Tensor | None) -> Tensor:
        for resnet, attention in zip(self.resnets, self.attentions):
            h = attention(resnet(h, embedding, context), embedding, context)
            skips.append(h)
        for downsampler in self.downsamplers:
            h = downsampler(h, embedding, context)
            skips.append(h)
        return h


class UpLevel(nn.Module):
    """Pairs of residual block, which takes a skip, and attention, then twice the resolution."""

    def __init__(self, resnets: list[nn.Module], attentions: list[nn.Module], upsamplers: list[nn.Module]):
        super().__init__()
        self.resnets, self.attentions = nn.ModuleList(resnets), nn.ModuleList(attentions)
        self.upsamplers = nn.ModuleList(upsamplers)

    def forward(self, h: Tensor, skips: list[Tensor], embedding: Tensor, context: Tensor | None) -> Tensor:
        for resnet, attention in zip(self.resnets, self.attentions):
            h = attention(resnet(torch.cat([h, skips.pop()], 1), embedding, context), embedding, context)
        for upsampler in self.upsamplers:
            h = upsampler(h, embedding, context)
        return h


class Middle(nn.Module):
    """Pairs of residual block and attention."""

    def __init__(self, resnets: list[nn.Module], attentions: list[nn.Module]):
        super().__init__()
        self.resnets, self.attentions = nn.ModuleList(resnets), nn.ModuleList(attentions)

    def forward(self, h: Tensor, embedding: Tensor, context: Tensor | None) -> Tensor:
        for resnet, attention in zip(self.resnets, self.attentions):
            h = attention(resnet(h, embedding, context), embedding, context)
        return h
