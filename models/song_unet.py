"""SongUNet: DDPM++ and NCSN++ (Song et al. 2021) as EDM trains them, with every encoder and decoder variant.

Beside the main path x runs a side path: in the encoder the input at ever lower resolution (skip) or a sum of its
features (residual), in the decoder the output at ever higher resolution (skip). All layers of encoder and decoder have
one signature, so each is a loop over its layers.
"""

import math
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edm_blocks import SQRT_HALF, Block, BlockStyle, Conv2d, group_norm


class EncoderInput(Conv2d):
    opens_skip: Final[bool] = True

    def forward(self, x: Tensor, side: Tensor, emb: Tensor) -> tuple[Tensor, Tensor]:
        return self.convolve(x), side


class EncoderBlock(Block):
    opens_skip: Final[bool] = True

    def forward(self, x: Tensor, side: Tensor, emb: Tensor) -> tuple[Tensor, Tensor]:
        return self.transform(x, emb), side


class SideDown(Conv2d):
    """The input image, at the next lower resolution."""

    opens_skip: Final[bool] = False

    def forward(self, x: Tensor, side: Tensor, emb: Tensor) -> tuple[Tensor, Tensor]:
        return x, self.convolve(side)


class SideSkip(Conv2d):
    """Adds the small input image to the main path."""

    opens_skip: Final[bool] = False

    def forward(self, x: Tensor, side: Tensor, emb: Tensor) -> tuple[Tensor, Tensor]:
        return x + self.convolve(side), side


class SideResidual(Conv2d):
    """Adds the side path to the main path, and goes on from the sum."""

    opens_skip: Final[bool] = False

    def forward(self, x: Tensor, side: Tensor, emb: Tensor) -> tuple[Tensor, Tensor]:
        x = (x + self.convolve(side)) / math.sqrt(2.0)
        return x, x


class DecoderBlock(Block):
    """Takes the main path, joined with an encoder output where takes_skip."""

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

    def forward(self, x: Tensor, side: Tensor, normed: Tensor, emb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.transform(x, emb), side, normed


class SideUp(Conv2d):
    """The output image so far, at the next higher resolution."""

    takes_skip: Final[bool] = False

    def forward(self, x: Tensor, side: Tensor, normed: Tensor, emb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return x, self.convolve(side), normed


class OutputNorm(nn.GroupNorm):
    takes_skip: Final[bool] = False

    def forward(self, x: Tensor, side: Tensor, normed: Tensor, emb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return x, side, F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class OutputConv(Conv2d):
    """Adds what the main path says to the output image."""

    takes_skip: Final[bool] = False

    def forward(self, x: Tensor, side: Tensor, normed: Tensor, emb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return x, side + self.convolve(F.silu(normed)), normed


class SongUNet(nn.Module):
    """F(x [B, C, H, W]; noise features [B, N], one-hot label [B, label_dim]). Arguments as the original's."""

    def __init__(
        self,
        img_resolution: int,
        in_channels: int,
        out_channels: int,
        label_dim: int = 0,
        *,
        model_channels: int = 128,
        channel_mult: tuple[int, ...] = (1, 2, 2, 2),
        channel_mult_emb: int = 4,
        num_blocks: int = 4,
        attn_resolutions: tuple[int, ...] = (16,),
        channel_mult_noise: int = 1,
        encoder_type: str = "standard",
        decoder_type: str = "standard",
        resample_filter: tuple[float, ...] = (1, 1),
    ):
        super().__init__()
        noise_channels, emb_channels = model_channels * channel_mult_noise, model_channels * channel_mult_emb
        self.label_scale = math.sqrt(label_dim)
        self.map_label = nn.Linear(label_dim, noise_channels) if label_dim else None
        self.map_layer0 = nn.Linear(noise_channels, emb_channels)
        self.map_layer1 = nn.Linear(emb_channels, emb_channels)
        filter = tuple(resample_filter)
        style = BlockStyle(
            emb_channels,
            1e-6,
            num_heads=1,
            skip_scale=SQRT_HALF,
            filter=filter,
            resample_proj=True,
            adaptive_scale=False,
        )

        enc: dict[str, nn.Module] = {}
        skips: list[int] = []
        width, side_width = model_channels, in_channels
        for level, mult in enumerate(channel_mult):
            size = img_resolution >> level
            if level == 0:
                enc[f"{size}x{size}_conv"] = EncoderInput(in_channels, width, 3)
            else:
                enc[f"{size}x{size}_down"] = EncoderBlock(width, width, style, down=True)
                if encoder_type == "skip":
                    enc[f"{size}x{size}_aux_down"] = SideDown(side_width, side_width, 0, down=True, filter=filter)
                    enc[f"{size}x{size}_aux_skip"] = SideSkip(side_width, width, 1)
                if encoder_type == "residual":
                    enc[f"{size}x{size}_aux_residual"] = SideResidual(
                        side_width, width, 3, down=True, filter=filter, fused=True
                    )
                    side_width = width
            skips.append(width)
            for index in range(num_blocks):
                enc[f"{size}x{size}_block{index}"] = EncoderBlock(
                    width, model_channels * mult, style, attention=size in attn_resolutions
                )
                width = model_channels * mult
                skips.append(width)

        dec: dict[str, nn.Module] = {}
        for level, mult in reversed(list(enumerate(channel_mult))):
            size = img_resolution >> level
            deepest = level == len(channel_mult) - 1
            if deepest:
                dec[f"{size}x{size}_in0"] = DecoderBlock(width, width, style, attention=True)
                dec[f"{size}x{size}_in1"] = DecoderBlock(width, width, style)
            else:
                dec[f"{size}x{size}_up"] = DecoderBlock(width, width, style, up=True)
            for index in range(num_blocks + 1):
                attention = index == num_blocks and size in attn_resolutions
                joined = width + skips.pop()
                width = model_channels * mult
                dec[f"{size}x{size}_block{index}"] = DecoderBlock(
                    joined, width, style, attention=attention, takes_skip=True
                )
            if decoder_type == "skip" or level == 0:
                if decoder_type == "skip" and not deepest:
                    dec[f"{size}x{size}_aux_up"] = SideUp(out_channels, out_channels, 0, up=True, filter=filter)
                norm = group_norm(width, 1e-6)
                dec[f"{size}x{size}_aux_norm"] = OutputNorm(norm.num_groups, width, eps=norm.eps)
                dec[f"{size}x{size}_aux_conv"] = OutputConv(width, out_channels, 3)
        self.enc = nn.ModuleDict(enc)
        self.dec = nn.ModuleDict(dec)

    def forward(self, x: Tensor, noise: Tensor, label: Tensor | None) -> Tensor:
        dtype = self.map_layer0.weight.dtype
        x, emb = x.to(dtype), noise.to(dtype)
        if self.map_label is not None and label is not None:
            emb = emb + self.map_label(label.to(dtype) * self.label_scale)
        emb = F.silu(self.map_layer0(emb))
        emb = F.silu(self.map_layer1(emb))

        side, skips = x, [x][:0]
        for layer in self.enc.values():
            x, side = layer(x, side, emb)
            if layer.opens_skip:
                skips.append(x)
            else:
                skips[-1] = x

        side, normed = torch.zeros([1], dtype=dtype, device=x.device), x
        for layer in self.dec.values():
            if layer.takes_skip:
                x = torch.cat([x, skips.pop()], dim=1)
            x, side, normed = layer(x, side, normed, emb)
        return side
