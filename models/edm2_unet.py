"""EDM2's magnitude-preserving U-Net (Karras et al. 2024, Figure 21), as plain layers.

What the original computes at every call of its weights, the forced normalisation and the learned gains, is in the
weights here (edm2.py).
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edm_blocks import Conv2d


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
