"""The demo's class-conditional U-Net. Parameter names are those of `ema.pt`."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ResidualBlock(nn.Module):
    """GroupNorm-SiLU-Conv twice, the embedding entering as scale and shift before the second convolution."""

    def __init__(self, in_channels: int, out_channels: int, emb_channels: int):
        super().__init__()
        self.norm_in = nn.GroupNorm(8, in_channels)
        self.conv_in = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.affine = nn.Linear(emb_channels, 2 * out_channels)
        self.norm_out = nn.GroupNorm(8, out_channels)
        self.conv_out = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.skip = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        scale, shift = self.affine(emb)[:, :, None, None].chunk(2, dim=1)
        h = self.conv_in(F.silu(self.norm_in(x)))
        h = self.conv_out(F.silu(torch.addcmul(shift, self.norm_out(h), 1 + scale)))
        return self.skip(x) + h


class SelfAttention(nn.Module):
    """Single-head self-attention over the pixels of a feature map, with a residual connection."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.proj.weight)
        nn.init.zeros_(self.proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, dim=2)
        a = F.scaled_dot_product_attention(q.unsqueeze(1), k.unsqueeze(1), v.unsqueeze(1)).squeeze(1)
        return x + self.proj(a.transpose(1, 2).reshape(b, c, h, w))


class Stage(nn.Module):
    """One residual block, with self-attention after it where asked."""

    takes_skip: bool

    def __init__(
        self, in_channels: int, out_channels: int, emb_channels: int, attention: bool, takes_skip: bool = False
    ):
        super().__init__()
        self.takes_skip = takes_skip
        self.block = ResidualBlock(in_channels, out_channels, emb_channels)
        self.attention = SelfAttention(out_channels) if attention else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return self.attention(self.block(x, emb))


class Downsample(nn.Module):
    takes_skip: bool

    def __init__(self, channels: int):
        super().__init__()
        self.takes_skip = False
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return self.conv(x)


class Upsample(nn.Module):
    takes_skip: bool

    def __init__(self, channels: int):
        super().__init__()
        self.takes_skip = False
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class FoldedUpsample(nn.Module):
    """What Upsample computes, as one transposed convolution: a pixel reads 4 input pixels instead of 9 copies."""

    takes_skip: bool

    def __init__(self, upsample: Upsample):
        super().__init__()
        self.takes_skip = False
        weight = upsample.conv.weight.detach()
        # After doubling, an input pixel is read through the 3x3 kernel's copies shifted by 0 and 1: a 4x4 kernel.
        kernel = sum(F.pad(weight, (left, 1 - left, top, 1 - top)) for left in (0, 1) for top in (0, 1))
        self.conv = nn.ConvTranspose2d(weight.shape[1], weight.shape[0], 4, stride=2, padding=1)
        self.conv.weight = nn.Parameter(kernel.transpose(0, 1).flip(2, 3).contiguous())
        self.conv.bias = upsample.conv.bias

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return self.conv(x)


class UNet(nn.Module):
    """The raw network F(x; noise features, label): [B, C, H, W] -> [B, C, H, W].

    noise: [B, 2 widths[0]] (see NoiseFeatures); label: one-hot [B, label_dim], all zeros or None for no label.
    """

    def __init__(
        self,
        resolution: int = 32,
        channels: int = 3,
        label_dim: int = 8,
        widths: tuple[int, ...] = (32, 64, 96),
        blocks: int = 2,
        attention_at: int = 8,
    ):
        super().__init__()
        emb = 4 * widths[0]
        self.embed_noise = nn.Sequential(nn.Linear(2 * widths[0], emb), nn.SiLU(), nn.Linear(emb, emb))
        self.embed_label = nn.Linear(label_dim, emb, bias=False)
        self.conv_in = nn.Conv2d(channels, widths[0], 3, padding=1)
        down, up, skips = [], [], [widths[0]]
        width = widths[0]
        for level, out in enumerate(widths):
            if level > 0:
                down.append(Downsample(width))
                skips.append(width)
            for _ in range(blocks):
                down.append(Stage(width, out, emb, resolution >> level == attention_at))
                width = out
                skips.append(width)
        self.middle = Stage(width, width, emb, True)
        for level, out in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                up.append(Stage(width + skips.pop(), out, emb, resolution >> level == attention_at, True))
                width = out
            if level > 0:
                up.append(Upsample(width))
        self.down = nn.ModuleList(down)
        self.up = nn.ModuleList(up)
        self.norm_out = nn.GroupNorm(8, width)
        self.conv_out = nn.Conv2d(width, channels, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)

    def forward(self, x: Tensor, noise: Tensor, label: Tensor | None) -> Tensor:
        dtype = self.conv_in.weight.dtype
        emb = self.embed_noise(noise.to(dtype))
        if label is not None:
            emb = emb + self.embed_label(label.to(dtype))
        emb = F.silu(emb)
        h = self.conv_in(x.to(dtype))
        skips = [h]
        for layer in self.down:
            h = layer(h, emb)
            skips.append(h)
        h = self.middle(h, emb)
        for layer in self.up:
            if layer.takes_skip:
                h = torch.cat([h, skips.pop()], dim=1)
            h = layer(h, emb)
        return self.conv_out(F.silu(self.norm_out(h)))

    def fold_upsampling(self) -> None:
        """Replace every Upsample by its folded form: the same function in a twelfth less time. For trained weights."""
        for index, layer in enumerate(self.up):
            if isinstance(layer, Upsample):
                self.up[index] = FoldedUpsample(layer)
