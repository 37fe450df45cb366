"""Layers of the EDM networks: convolutions that resample, and the residual block that DDPM++, NCSN++ and ADM share.

Source: Karras et al. 2022, appendix F. Parameters are named as in the released pickles.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SQRT_HALF = math.sqrt(0.5)


class Conv2d(nn.Module):
    """A convolution that may double (`up`) or halve (`down`) the resolution, by `filter` along each axis.

    Kernel 0 only resamples. Resampling comes before the convolution, or with `fused` (down only) after it.
    """

    __constants__ = ["up", "down", "fused", "box"]  # branches on them are settled when scripting

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        up: bool = False,
        down: bool = False,
        filter: tuple[float, ...] = (1, 1),
        fused: bool = False,
    ):
        super().__init__()
        self.up, self.down, self.fused = up, down, fused
        # The filter averages, or copies, two pixels.
        self.box = len(filter) == 2 and filter[0] == filter[1]
        self.filter_pad = (len(filter) - 1) // 2
        self.pad = kernel // 2
        taps = torch.tensor(filter, dtype=torch.float32)
        self.register_buffer(
            "resample_filter", (torch.outer(taps, taps) / taps.sum() ** 2)[None, None] if up or down else None
        )
        self.register_parameter(
            "weight", nn.Parameter(torch.empty(out_channels, in_channels, kernel, kernel)) if kernel else None
        )
        self.register_parameter("bias", nn.Parameter(torch.empty(out_channels)) if kernel else None)

    def convolve(self, x: Tensor) -> Tensor:
        if self.up:
            x = self.doubled(x)
        if self.down and not self.fused:
            x = self.halved(x, self.filter_pad)
        if self.weight is not None:
            x = F.conv2d(x, self.weight, self.bias, padding=self.pad + (self.filter_pad if self.fused else 0))
        if self.down and self.fused:
            x = self.halved(x, 0)
        return x

    def doubled(self, x: Tensor) -> Tensor:
        if self.box:
            return F.interpolate(x, scale_factor=2.0, mode="nearest")
        taps = (4 * self.resample_filter).repeat(x.shape[1], 1, 1, 1)
        return F.conv_transpose2d(x, taps, stride=2, padding=self.filter_pad, groups=x.shape[1])

    def halved(self, x: Tensor, pad: int) -> Tensor:
        if self.box:
            return F.avg_pool2d(x, 2)
        return F.conv2d(x, self.resample_filter.repeat(x.shape[1], 1, 1, 1), stride=2, padding=pad, groups=x.shape[1])

    def forward(self, x: Tensor) -> Tensor:
        return self.convolve(x)


def group_norm(channels: int, eps: float) -> nn.GroupNorm:
    """32 groups, fewer where a group would have less than 4 channels."""
    return nn.GroupNorm(min(32, channels // 4), channels, eps=eps)


class BlockStyle:
    """What all blocks of one network have in common."""

    def __init__(
        self,
        emb_channels: int,
        eps: float,
        num_heads: int = 0,
        channels_per_head: int = 64,
        skip_scale: float = 1.0,
        filter: tuple[float, ...] = (1, 1),
        resample_proj: bool = False,
        adaptive_scale: bool = True,
    ):
        self.emb_channels = emb_channels
        self.eps = eps
        self.num_heads = num_heads  # 0: one head for every channels_per_head channels
        self.channels_per_head = channels_per_head
        self.skip_scale = skip_scale
        self.filter = filter
        self.resample_proj = resample_proj  # a 1x1 convolution on every resampled skip, not only where channels change
        self.adaptive_scale = (
            adaptive_scale  # the embedding gives scale and shift after the second norm, else a shift before it
        )


class Block(nn.Module):
    """GroupNorm-SiLU-Conv twice with the embedding in between, a skip connection, and self-attention where asked."""

    __constants__ = ["adaptive_scale", "attention"]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        style: BlockStyle,
        up: bool = False,
        down: bool = False,
        attention: bool = False,
    ):
        super().__init__()
        self.adaptive_scale, self.skip_scale = style.adaptive_scale, style.skip_scale
        self.num_heads = style.num_heads or out_channels // style.channels_per_head
        attention = attention and self.num_heads > 0  # layers too narrow for one head go without, as in the original
        self.attention = attention
        self.norm0 = group_norm(in_channels, style.eps)
        self.conv0 = Conv2d(in_channels, out_channels, 3, up, down, style.filter)
        self.affine = nn.Linear(style.emb_channels, out_channels * (2 if style.adaptive_scale else 1))
        self.norm1 = group_norm(out_channels, style.eps)
        self.conv1 = Conv2d(out_channels, out_channels, 3)
        self.skip: nn.Module = nn.Identity()
        if in_channels != out_channels or up or down:
            kernel = 1 if style.resample_proj or in_channels != out_channels else 0
            self.skip = Conv2d(in_channels, out_channels, kernel, up, down, style.filter)
        self.norm2 = group_norm(out_channels, style.eps) if attention else nn.Identity()
        self.qkv = Conv2d(out_channels, 3 * out_channels, 1) if attention else nn.Identity()
        self.proj = Conv2d(out_channels, out_channels, 1) if attention else nn.Identity()

    def transform(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv0(F.silu(self.norm0(x)))
        params = self.affine(emb)[:, :, None, None]
        if self.adaptive_scale:
            scale, shift = params.chunk(2, dim=1)
            h = F.silu(torch.addcmul(shift, self.norm1(h), scale + 1))
        else:
            h = F.silu(self.norm1(h + params))
        h = (self.conv1(h) + self.skip(x)) * self.skip_scale
        if self.attention:
            h = (h + self.proj(self.attend(self.qkv(self.norm2(h))))) * self.skip_scale
        return h

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return self.transform(x, emb)

    def attend(self, qkv: Tensor) -> Tensor:
        """Attention over the pixels; the channels of qkv are (head, d, three)."""
        b, channels, height, width = qkv.shape
        parts = qkv.reshape(b, self.num_heads, channels // (3 * self.num_heads), 3, height * width)
        q, k, v = parts.permute(3, 0, 1, 4, 2).contiguous().unbind(0)  # the fused kernels want d last in memory
        a = F.scaled_dot_product_attention(q, k, v)
        return a.transpose(1, 2).reshape(b, height, width, channels // 3).permute(0, 3, 1, 2)
