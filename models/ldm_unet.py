"""The U-Net of latent diffusion (Rombach et al. 2022; Dhariwal & Nichol 2021).

Layer and parameter names are the original's, so unet_reader.py builds them from the names and shapes of a state dict.
Every layer takes (h, embedding, context): h [B, C, H, W], the time embedding [B, E], text states [B, T, W] or None.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, interpolate, linear, scaled_dot_product_attention

from preconditioning import TimeFeatures

NUM_GROUPS = 32  # of every group normalisation


def tokens_of(h: Tensor) -> Tensor:
    """The pixels of h [B, C, H, W] as [B, H W, C]: a view where h is channels_last."""
    return h.flatten(2).transpose(1, 2)


def image_of(tokens: Tensor, h: Tensor) -> Tensor:
    """Tokens [B, H W, C] as an image of h's height and width: a view, channels_last."""
    return tokens.transpose(1, 2).unflatten(2, [h.shape[2], h.shape[3]])


class Convolution(nn.Conv2d):
    def forward(self, h: Tensor, embedding: Tensor, context: Tensor | None) -> Tensor:
        return self._conv_forward(h, self.weight, self.bias)


class Downsample(nn.Module):
    def __init__(self, channels: int, out_channels: int):
        super().__init__()
        self.op = nn.Conv2d(channels, out_channels, 3, stride=2, padding=1)

    def forward(self, h: Tensor, embedding: Tensor, context: Tensor | None) -> Tensor:
        return self.op(h)


class Resampling(nn.Module):
    """Halves or doubles the resolution without weights (the original's conv_resample=False)."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, h: Tensor, embedding: Tensor, context: Tensor | None) -> Tensor:
        return self.layer(h)


class Upsample(nn.Module):
    def __init__(self, channels: int, out_channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels, 3, padding=1)

    def forward(self, h: Tensor, embedding: Tensor, context: Tensor | None) -> Tensor:
        return self.conv(interpolate(h, scale_factor=2.0, mode="nearest"))


class ResBlock(nn.Module):
    """x + f(x, embedding). The embedding is added, or scales and shifts; `resample` changes both resolutions."""

    def __init__(
        self, channels: int, out_channels: int, embedding: int, scale_shift: bool, skip_kernel: int, resample: nn.Module
    ):
        super().__init__()
        self.scale_shift = scale_shift
        self.resample = resample
        self.in_layers = nn.Sequential(
            nn.GroupNorm(NUM_GROUPS, channels), nn.SiLU(), nn.Conv2d(channels, out_channels, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, out_channels * (2 if scale_shift else 1)))
        dropout = nn.Identity()  # trained with dropout here: the number of the next layer counts it
        self.out_layers = nn.Sequential(
            nn.GroupNorm(NUM_GROUPS, out_channels),
            nn.SiLU(),
            dropout,
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
        )
        self.skip_connection = (
            nn.Conv2d(channels, out_channels, skip_kernel, padding=skip_kernel // 2) if skip_kernel else nn.Identity()
        )

    def forward(self, x: Tensor, embedding: Tensor, context: Tensor | None) -> Tensor:
        h = self.in_layers[2](self.resample(self.in_layers[1](self.in_layers[0](x))))
        modulation = self.emb_layers(embedding)[:, :, None, None]
        if self.scale_shift:
            scale, shift = modulation.chunk(2, dim=1)
            h = self.out_layers[0](h) * (1 + scale) + shift
        else:
            h = self.out_layers[0](h + modulation)
        h = self.out_layers[3](self.out_layers[1](h))
        return self.skip_connection(self.resample(x)) + h


class AttentionBlock(nn.Module):
    """Self-attention over the pixels; `planar` weights have the shape of 2-d convolutions, others of 1-d ones.

    The channels of qkv are ordered (head, three, channel of the head), in the new order (three, head, channel).
    """

    def __init__(self, channels: int, num_heads: int, planar: bool, new_order: bool):
        super().__init__()
        self.num_heads = num_heads
        self.new_order = new_order
        convolution = nn.Conv2d if planar else nn.Conv1d
        self.norm = nn.GroupNorm(NUM_GROUPS, channels)
        self.qkv = convolution(channels, 3 * channels, 1)
        self.proj_out = convolution(channels, channels, 1)

    def forward(self, x: Tensor, embedding: Tensor, context: Tensor | None) -> Tensor:
        heads = self.num_heads
        # A product over tokens leaves q, k and v with their channels last in memory: the fused kernels want that.
        qkv = linear(tokens_of(self.norm(x)), self.qkv.weight.flatten(1), self.qkv.bias)
        if self.new_order:
            qkv = qkv.unflatten(2, [3, heads, x.shape[1] // heads]).permute(2, 0, 3, 1, 4)
        else:
            qkv = qkv.unflatten(2, [heads, 3, x.shape[1] // heads]).permute(3, 0, 2, 1, 4)
        q, k, v = qkv.unbind(0)  # each [B, heads, pixels, channels of a head]
        attended = scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x + image_of(linear(attended, self.proj_out.weight.flatten(1), self.proj_out.bias), x)


class CrossAttention(nn.Module):
    """Attention from x [B, N, C] to the context [B, T, W], or to x itself without one."""

    def __init__(self, channels: int, inner: int, context_width: int, num_heads: int, bias: bool = False):
        super().__init__()
        self.num_heads = num_heads
        self.to_q = nn.Linear(channels, inner, bias)
        self.to_k = nn.Linear(context_width, inner, bias)
        self.to_v = nn.Linear(context_width, inner, bias)
        self.to_out = nn.Sequential(nn.Linear(inner, channels))

    def heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, [self.num_heads, x.shape[-1] // self.num_heads]).transpose(1, 2)

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        source = x if context is None else context
        q, k, v = self.heads(self.to_q(x)), self.heads(self.to_k(source)), self.heads(self.to_v(source))
        return self.to_out(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class GatedGelu(nn.Module):
    def __init__(self, channels: int, inner: int):
        super().__init__()
        self.proj = nn.Linear(channels, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, channels: int, inner: int):
        super().__init__()
        dropout = nn.Identity()
        self.net = nn.Sequential(GatedGelu(channels, inner), dropout, nn.Linear(inner, channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class TransformerBlock(nn.Module):
    def __init__(self, channels: int, inner: int, context_width: int, feed_forward: int, num_heads: int):
        super().__init__()
        self.attn1 = CrossAttention(channels, inner, channels, num_heads)
        self.ff = FeedForward(channels, feed_forward)
        self.attn2 = CrossAttention(channels, inner, context_width, num_heads)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.norm3 = nn.LayerNorm(channels)

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        x = x + self.attn1(self.norm1(x), None)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """Transformer blocks over the pixels, between two projections: 1x1 convolutions or linear layers."""

    def __init__(
        self, channels: int, inner: int, blocks: list[nn.Module], linear: bool = False, groups: int = NUM_GROUPS
    ):
        super().__init__()
        self.linear = linear
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, inner) if linear else nn.Conv2d(channels, inner, 1)
        self.transformer_blocks = nn.ModuleList(blocks)
        self.proj_out = nn.Linear(inner, channels) if linear else nn.Conv2d(inner, channels, 1)

    def forward(self, x: Tensor, embedding: Tensor, context: Tensor | None) -> Tensor:
        h = self.norm(x)
        tokens = self.proj_in(tokens_of(h)) if self.linear else tokens_of(self.proj_in(h))
        for block in self.transformer_blocks:
            tokens = block(tokens, context)
        return x + (image_of(self.proj_out(tokens), x) if self.linear else self.proj_out(image_of(tokens, x)))


class SizeCondition(nn.Module):
    """What Stable Diffusion XL embeds beside the time [B, inputs]: the pooled text state in the last row of the
    condition [B, T + 1, W], and features of original size, crop and target size (here: the image, uncropped)."""

    IDS = 6  # two numbers each

    def __init__(self, inputs: int, features: TimeFeatures, upscaling: int):
        super().__init__()
        self.pooled = inputs - self.IDS * features.channels
        self.features, self.upscaling = features, upscaling

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        size = [x.shape[2] * self.upscaling, x.shape[3] * self.upscaling]
        sizes = self.features(torch.tensor(size + [0, 0] + size, device=x.device)).flatten()
        return torch.cat([condition[:, -1, : self.pooled].float(), sizes.expand(x.shape[0], -1)], 1)


class Stage(nn.Sequential):
    """Layers of one resolution, one after the other."""

    def forward(self, h: Tensor, embedding: Tensor, context: Tensor | None) -> Tensor:
        for layer in self:
            h = layer(h, embedding, context)
        return h


class LatentUnet(nn.Module):
    """eps(x, time features [B, model channels], context): the predicted noise, in the dtype of the weights."""

    def __init__(
        self,
        time_embed: nn.Module,
        input_blocks: list[Stage],
        middle_block: Stage,
        output_blocks: list[Stage],
        out: nn.Module,
        size_condition: SizeCondition | None = None,
        label_emb: nn.Module | None = None,
    ):
        super().__init__()
        self.time_embed = time_embed
        self.size_condition, self.label_emb = size_condition, label_emb
        self.input_blocks = nn.ModuleList(input_blocks)
        self.middle_block = middle_block
        self.output_blocks = nn.ModuleList(output_blocks)
        self.out = out

    def forward(self, x: Tensor, time_features: Tensor, context: Tensor | None) -> Tensor:
        dtype = self.time_embed[0].weight.dtype
        embedding = self.time_embed(time_features.to(dtype))
        if context is not None:
            if self.size_condition is not None and self.label_emb is not None:
                embedding = embedding + self.label_emb(self.size_condition(x, context).to(dtype))
                context = context[:, :-1]
            context = context.to(dtype)
        h = x.to(dtype)
        skips: list[Tensor] = []
        for block in self.input_blocks:
            h = block(h, embedding, context)
            skips.append(h)
        h = self.middle_block(h, embedding, context)
        for block in self.output_blocks:
            h = block(torch.cat([h, skips.pop()], dim=1), embedding, context)
        return self.out(h)
