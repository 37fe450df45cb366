"""The decoders of latent diffusion's first stages (Rombach et al. 2022; Esser et al. 2021): latents to images.

Layer and parameter names are the original's; `build_first_stage` reads the sizes from a state dict.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, linear, scaled_dot_product_attention

from ldm_unet import image_of, tokens_of
from state_dict import StateDict, load_strictly


def normalization(channels: int, groups: int = 32) -> nn.GroupNorm:
    return nn.GroupNorm(groups, channels, eps=1e-6)


class ResnetBlock(nn.Module):
    def __init__(self, channels: int, out_channels: int, groups: int = 32):
        super().__init__()
        self.norm1 = normalization(channels, groups)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.norm2 = normalization(out_channels, groups)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.nin_shortcut = nn.Identity() if channels == out_channels else nn.Conv2d(channels, out_channels, 1)
        self.silu = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(self.silu(self.norm1(x)))
        h = self.conv2(self.silu(self.norm2(h)))
        return self.nin_shortcut(x) + h


class PixelAttention(nn.Module):
    """Self-attention over the pixels, with one head."""

    def __init__(self, channels: int, groups: int = 32):
        super().__init__()
        self.norm = normalization(channels, groups)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        tokens = tokens_of(self.norm(x)).unsqueeze(1)  # [B, 1 head, pixels, C]
        # Products over tokens leave q, k and v with their channels last in memory: the fused kernels want that.
        q = linear(tokens, self.q.weight.flatten(1), self.q.bias)
        k = linear(tokens, self.k.weight.flatten(1), self.k.bias)
        v = linear(tokens, self.v.weight.flatten(1), self.v.bias)
        attended = scaled_dot_product_attention(q, k, v).squeeze(1)
        return x + image_of(linear(attended, self.proj_out.weight.flatten(1), self.proj_out.bias), x)


class Upsample(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(interpolate(x, scale_factor=2.0, mode="nearest"))


class PlainUpsample(nn.Upsample):
    def __init__(self, _channels: int):
        super().__init__(scale_factor=2.0, mode="nearest")


class Level(nn.Module):
    """The blocks of one resolution, each followed by attention where there is some, then twice the resolution."""

    def __init__(self, blocks: list[nn.Module], attentions: list[nn.Module], upsample: nn.Module):
        super().__init__()
        self.block = nn.ModuleList(blocks)
        self.attn = nn.ModuleList(attentions)
        self.upsample = upsample

    def forward(self, x: Tensor) -> Tensor:
        for block, attention in zip(self.block, self.attn):
            x = attention(block(x))
        return self.upsample(x)


class Decoder(nn.Module):
    """Latent [B, z, H, W] to image [B, 3, f H, f W], the levels numbered from the finest."""

    def __init__(
        self,
        conv_in: nn.Module,
        mid: dict[str, nn.Module],
        levels: list[Level],
        norm_out: nn.Module,
        conv_out: nn.Module,
    ):
        super().__init__()
        self.conv_in = conv_in
        self.mid = nn.ModuleDict(mid)
        self.up = nn.ModuleDict(
            {str(i): levels[i] for i in reversed(range(len(levels)))}
        )  # in the order of the forward pass
        self.norm_out = norm_out
        self.silu = nn.SiLU()
        self.conv_out = conv_out

    def forward(self, z: Tensor) -> Tensor:
        h = self.conv_in(z)
        for layer in self.mid.values():
            h = layer(h)
        for level in self.up.values():
            h = level(h)
        return self.conv_out(self.silu(self.norm_out(h)))


class Quantizer(nn.Module):
    """The nearest of the codes [n, C] for each pixel; the gradient passes through (van den Oord et al. 2017)."""

    def __init__(self, codes: int, channels: int):
        super().__init__()
        self.embedding = nn.Embedding(codes, channels)

    def forward(self, z: Tensor) -> Tensor:
        codes = self.embedding.weight
        pixels = z.permute(0, 2, 3, 1).flatten(0, 2)
        distance = (
            (pixels**2).sum(1, keepdim=True) + (codes**2).sum(1) - 2 * torch.einsum("bd,dn->bn", pixels, codes.t())
        )
        nearest = self.embedding(distance.argmin(1)).reshape(z.shape[0], z.shape[2], z.shape[3], z.shape[1])
        return z + (nearest.permute(0, 3, 1, 2) - z).detach()


class FirstStage(nn.Module):
    """Latents to images: quantise (VQ; nothing for KL), then decode."""

    def __init__(self, quantize: nn.Module, post_quant_conv: nn.Module, decoder: Decoder):
        super().__init__()
        self.quantize = quantize
        self.post_quant_conv = post_quant_conv
        self.decoder = decoder

    def forward(self, z: Tensor) -> Tensor:
        return self.decoder(self.post_quant_conv(self.quantize(z)))


class ScaledLatents(nn.Module):
    """A denoiser's decoding with its `first_stage`, whose latents are the denoiser's over `scale_factor`."""

    @torch.jit.export
    def decode(self, latent: Tensor) -> Tensor:
        return self.first_stage(latent / self.scale_factor)


def read_level(state: StateDict, upsample: type, groups: int) -> Level:
    blocks: list[nn.Module] = []
    attentions: list[nn.Module] = []
    attention = state.under("attn")
    for i in range(state.under("block").count()):
        out_channels, channels = state.shape(f"block.{i}.conv1.weight", 4)[:2]
        blocks.append(ResnetBlock(channels, out_channels, groups))
        attentions.append(PixelAttention(out_channels, groups) if attention else nn.Identity())
    return Level(blocks, attentions, upsample(out_channels))


def read_decoder(state: StateDict, groups: int) -> Decoder:
    channels, z_channels = state.shape("conv_in.weight", 4)[:2]
    attention = PixelAttention(channels, groups) if state.under("mid.attn_1") else nn.Identity()
    block = lambda: ResnetBlock(channels, channels, groups)  # noqa: E731
    mid = {"block_1": block(), "attn_1": attention, "block_2": block()}
    # Without convolutions (resamp_with_conv off) doubling the resolution leaves no entry.
    upsample = Upsample if any(".upsample." in name for name in state.entries) else PlainUpsample
    levels = [
        read_level(state.under(f"up.{i}"), nn.Identity if i == 0 else upsample, groups)
        for i in range(state.under("up").count())
    ]
    out_channels, last = state.shape("conv_out.weight", 4)[:2]
    conv_in, conv_out = nn.Conv2d(z_channels, channels, 3, padding=1), nn.Conv2d(last, out_channels, 3, padding=1)
    return Decoder(conv_in, mid, levels, normalization(last, groups), conv_out)


# What a first stage's checkpoint holds beyond the way from latent to image: the encoder, and what it was trained with.
NOT_DECODING = ("encoder.", "quant_conv.", "loss.", "model_ema.", "colorize")


def build_first_stage(state: StateDict, groups: int = 32, post_quant: bool = True) -> FirstStage:
    """The first stage of a VQ (where there is a codebook) or KL autoencoder, with its weights.

    `groups` of every normalisation; `post_quant`: there is a convolution before the decoder.
    """
    state = StateDict(
        {name: value for name, value in state.entries.items() if not name.startswith(NOT_DECODING)}, state.path
    )
    with torch.device("meta"):
        quantize = Quantizer(*state.shape("quantize.embedding.weight", 2)) if state.under("quantize") else nn.Identity()
        post: nn.Module = nn.Identity()
        if post_quant:
            z_channels, channels = state.shape("post_quant_conv.weight", 4)[:2]
            post = nn.Conv2d(channels, z_channels, 1)
        stage = FirstStage(quantize, post, read_decoder(state.under("decoder"), groups))
    return load_strictly(stage, state)


def upscaling(stage: FirstStage) -> int:
    """How many times larger the image is than its latent."""
    return 2 ** (len(stage.decoder.up) - 1)


def latent_fact(stage: FirstStage, resolution: int) -> dict[str, int]:
    """The fact `latent` of a model of latents of this resolution."""
    return {
        "image_resolution": resolution * upscaling(stage),
        "image_channels": stage.decoder.conv_out.out_channels,
    }
