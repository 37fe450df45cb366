"""DhariwalUNet: the ADM network (Dhariwal and Nichol 2021) as EDM trains it."""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edm_blocks import Block, BlockStyle, Conv2d, group_norm


class InputConv(Conv2d):
    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return self.convolve(x)


class DecoderBlock(Block):
    takes_skip: Final[bool]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        style: BlockStyle,
        up: bool = False,
        attention: bool = False,
        takes_skip: bool = False,
    ):
        super().__init__(in_channels, out_channels, style, up=up, attention=attention)
        self.takes_skip = takes_skip


class DhariwalUNet(nn.Module):
    """F(x [B, C, H, W]; noise features [B, N], one-hot label [B, label_dim]). Arguments as the original's."""

    def __init__(
        self,
        img_resolution: int,
        in_channels: int,
        out_channels: int,
        label_dim: int = 0,
        *,
        model_channels: int = 192,
        channel_mult: tuple[int, ...] = (1, 2, 3, 4),
        channel_mult_emb: int = 4,
        num_blocks: int = 3,
        attn_resolutions: tuple[int, ...] = (32, 16, 8),
    ):
        super().__init__()
        emb_channels = model_channels * channel_mult_emb
        self.map_layer0 = nn.Linear(model_channels, emb_channels)
        self.map_layer1 = nn.Linear(emb_channels, emb_channels)
        self.map_label = nn.Linear(label_dim, emb_channels, bias=False) if label_dim else None
        style = BlockStyle(emb_channels, 1e-5)

        enc: dict[str, nn.Module] = {}
        skips: list[int] = []
        width = model_channels * channel_mult[0]
        for level, mult in enumerate(channel_mult):
            size = img_resolution >> level
            if level == 0:
                enc[f"{size}x{size}_conv"] = InputConv(in_channels, width, 3)
            else:
                enc[f"{size}x{size}_down"] = Block(width, width, style, down=True)
            skips.append(width)
            for index in range(num_blocks):
                enc[f"{size}x{size}_block{index}"] = Block(
                    width, model_channels * mult, style, attention=size in attn_resolutions
                )
                width = model_channels * mult
                skips.append(width)

        dec: dict[str, nn.Module] = {}
        for level, mult in reversed(list(enumerate(channel_mult))):
            size = img_resolution >> level
            if level == len(channel_mult) - 1:
                dec[f"{size}x{size}_in0"] = DecoderBlock(width, width, style, attention=True)
                dec[f"{size}x{size}_in1"] = DecoderBlock(width, width, style)
            else:
                dec[f"{size}x{size}_up"] = DecoderBlock(width, width, style, up=True)
            for index in range(num_blocks + 1):
                joined = width + skips.pop()
                width = model_channels * mult
                attention = size in attn_resolutions
                dec[f"{size}x{size}_block{index}"] = DecoderBlock(
                    joined, width, style, attention=attention, takes_skip=True
                )
        self.enc = nn.ModuleDict(enc)
        self.dec = nn.ModuleDict(dec)
        self.out_norm = group_norm(width, 1e-5)
        self.out_conv = Conv2d(width, out_channels, 3)

    def forward(self, x: Tensor, noise: Tensor, label: Tensor | None) -> Tensor:
        dtype = self.map_layer0.weight.dtype
        x = x.to(dtype)
        emb = self.map_layer1(F.silu(self.map_layer0(noise.to(dtype))))
        if self.map_label is not None and label is not None:
            emb = emb + self.map_label(label.to(dtype))
        emb = F.silu(emb)

        skips = [x][:0]
        for layer in self.enc.values():
            x = layer(x, emb)
            skips.append(x)
        for layer in self.dec.values():
            if layer.takes_skip:
                x = torch.cat([x, skips.pop()], dim=1)
            x = layer(x, emb)
        return self.out_conv(F.silu(self.out_norm(x)))
