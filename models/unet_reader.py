"""Reads a U-Net of latent diffusion or guided diffusion (ldm_unet.py) from the names and shapes of a state dict.

Only what concerns the heads of attention cannot be seen there.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ldm_unet import (
    NUM_GROUPS,
    AttentionBlock,
    Convolution,
    Downsample,
    LatentUnet,
    Resampling,
    ResBlock,
    SizeCondition,
    SpatialTransformer,
    Stage,
    TransformerBlock,
    Upsample,
)
from preconditioning import TimeFeatures
from state_dict import StateDict, load_strictly


@dataclass(frozen=True)
class Heads:
    """What weights do not tell of attention: `num_heads`, or `head_channels` channels a head; the order of channels.

    `upsample` is the number of heads in the output blocks' self-attention, where it differs. `new_order` where unset is
    as published: in Consistency Models, whose convolutions there are 2-d.
    """

    num_heads: int | None = None
    head_channels: int | None = None
    new_order: bool | None = None
    upsample: int | None = None

    def __post_init__(self) -> None:
        if (self.num_heads is None) == (self.head_channels is None):
            raise ValueError("give either --num_heads or --head_channels")
        if self.upsample and not self.num_heads:
            raise ValueError("--num_heads_upsample goes with --num_heads: channels of a head are the same everywhere")

    def count(self, channels: int, where: str, outputs: bool = False) -> int:
        """How many heads share the `channels` of the layer `where`."""
        option = "num_heads_upsample" if self.upsample and outputs else "num_heads"
        heads = self.upsample if self.upsample and outputs else self.num_heads
        if heads and channels % heads == 0:
            return heads
        if not heads and channels >= self.head_channels and channels % self.head_channels == 0:
            return channels // self.head_channels
        wanted = f"--{option} {heads}" if heads else f"--head_channels {self.head_channels}"
        raise ValueError(f"the {channels} channels of {where[:-1]} do not divide by {wanted}")


def heads_of(sizes: Any, head_channels: int) -> Heads:
    """The heads that the export command was given, or `head_channels` a head as published."""
    channels = None if sizes.num_heads else sizes.head_channels or head_channels
    return Heads(sizes.num_heads, channels, sizes.new_attention_order, sizes.num_heads_upsample)


def resampling(state: StateDict) -> list[str]:
    """How each output block of a U-Net doubles the resolution at its end; the input block that it mirrors halves it so.

    An output block takes the result of the input block at the same distance from the middle. "conv": a convolution;
    "block": a residual block, behind another one; "plain": no weights, so the input block has no entry at all; or "".
    """
    inputs, outputs = state.under("input_blocks"), state.under("output_blocks")
    count = outputs.count()
    plain = halved_without_weights(inputs, count)
    kinds = []
    for i in range(count):
        mirrored, block = count - 1 - i, outputs.under(str(i))
        last = block.count() - 1
        children = block.under(str(last)).children()
        kind = "conv" if "conv" in children else "block" if last > 0 and "in_layers" in children else ""
        if kind and mirrored in plain:
            raise ValueError(f"the checkpoint lacks every entry below {inputs.path}{mirrored}.")
        if (kind == "conv") != ("op" in inputs.under(f"{mirrored}.0").children()):
            pair = f"{inputs.path}{mirrored}.0.op and {outputs.path}{i}.{last + (kind != 'conv')}.conv"
            raise ValueError(f"the checkpoint lacks one of {pair}, which stand opposite each other")
        kinds.append("plain" if mirrored in plain else kind)
    return kinds


def halved_without_weights(inputs: StateDict, count: int) -> list[int]:
    """Which of `count` input blocks have no entry as they average pixels: the last of a level but the last; or none."""
    gaps = [i for i in range(count) if not inputs.under(str(i))]
    period = gaps[0] if gaps else count
    if period == 0 or count % period != 0 or gaps != list(range(period, count, period)):
        raise ValueError(f"the checkpoint lacks every entry below {inputs.path}{period}.")
    return gaps


class UnetReader:
    """Builds the layers that a U-Net's state dict describes.

    One of Stable Diffusion XL is also told the width of the pooled text state, and the image's pixels for a latent's.
    """

    def __init__(self, state: StateDict, heads: Heads, pooled: int = 0, upscaling: int = 1):
        self.state = state
        self.heads = heads
        self.pooled, self.upscaling = pooled, upscaling

    def res_block(self, state: StateDict, resample: nn.Module) -> ResBlock:
        out_channels, channels = state.shape("in_layers.2.weight", 4)[:2]
        modulation, embedding = state.shape("emb_layers.1.weight", 2)
        skip_kernel = state.shape("skip_connection.weight", 4)[2] if "skip_connection" in state.children() else 0
        return ResBlock(channels, out_channels, embedding, modulation == 2 * out_channels, skip_kernel, resample)

    def spatial_transformer(self, state: StateDict) -> SpatialTransformer:
        inner, channels = state.shape("proj_in.weight", 2, 4)[:2]
        heads = self.heads.count(inner, state.path)
        blocks = []
        for i in range(state.under("transformer_blocks").count()):
            block = state.under(f"transformer_blocks.{i}")
            width, context_width = block.shape("attn2.to_k.weight", 2)
            blocks.append(TransformerBlock(inner, width, context_width, block.shape("ff.net.2.weight", 2)[1], heads))
        return SpatialTransformer(channels, inner, blocks, len(state.shape("proj_in.weight")) == 2)

    def layer(self, state: StateDict, resample: nn.Module) -> nn.Module:
        children = state.children()
        if children & {"in_layers", "emb_layers", "out_layers"}:
            return self.res_block(state, resample)
        if children & {"transformer_blocks", "proj_in"}:
            return self.spatial_transformer(state)
        if children & {"qkv", "proj_out"}:
            channels = state.shape("proj_out.weight", 3, 4)[0]
            planar = len(state.shape("qkv.weight", 3, 4)) == 4
            new_order = planar if self.heads.new_order is None else self.heads.new_order
            heads = self.heads.count(channels, state.path, "output_blocks." in state.path)
            return AttentionBlock(channels, heads, planar, new_order)
        if "op" in children:
            return Downsample(state.shape("op.weight", 4)[1], state.shape("op.weight", 4)[0])
        if "conv" in children:
            return Upsample(state.shape("conv.weight", 4)[1], state.shape("conv.weight", 4)[0])
        out_channels, channels = state.shape("weight", 4)[:2]
        return Convolution(channels, out_channels, 3, padding=1)

    def stage(self, prefix: str, resample: nn.Module | None = None, resampled: int = 0) -> Stage:
        """The layers below `prefix`; number `resampled` is given `resample`, should it be a residual block."""
        state = self.state.under(prefix)
        layers = range(state.count())
        return Stage(
            *(
                self.layer(state.under(str(i)), resample if resample and i == resampled else nn.Identity())
                for i in layers
            )
        )

    def input_stage(self, number: int, kind: str) -> Stage:
        """An input block; `kind` says how it halves the resolution, as resampling() does."""
        halve = nn.AvgPool2d(2)
        return (
            Stage(Resampling(halve))
            if kind == "plain"
            else self.stage(f"input_blocks.{number}", halve if kind == "block" else None)
        )

    def output_stage(self, number: int, kind: str) -> Stage:
        """An output block; `kind` says how it doubles the resolution at its end."""
        name, double = f"output_blocks.{number}", nn.Upsample(scale_factor=2.0, mode="nearest")
        stage = self.stage(name, double if kind == "block" else None, self.state.under(name).count() - 1)
        return Stage(*stage, Resampling(double)) if kind == "plain" else stage

    def middle(self) -> Stage:
        """A residual block, attention, a residual block."""
        state = self.state.under("middle_block")
        if state.count() > 3:
            raise ValueError(f"the checkpoint has surplus entries below {state.path}3.")
        return self.stage("middle_block")

    def unet(self) -> LatentUnet:
        state = self.state
        width, channels = state.shape("time_embed.0.weight", 2)
        time_embed = nn.Sequential(nn.Linear(channels, width), nn.SiLU(), nn.Linear(width, width))
        kinds = resampling(state)
        inputs = [self.input_stage(i, kind) for i, kind in enumerate(reversed(kinds))]
        outputs = [self.output_stage(i, kind) for i, kind in enumerate(kinds)]
        out_channels, channels = state.shape("out.2.weight", 4)[:2]
        out = nn.Sequential(
            nn.GroupNorm(NUM_GROUPS, channels), nn.SiLU(), nn.Conv2d(channels, out_channels, 3, padding=1)
        )
        return LatentUnet(time_embed, inputs, self.middle(), outputs, out, *self.condition(width))

    def condition(self, width: int) -> tuple[SizeCondition, nn.Module] | tuple[()]:
        """What is embedded beside the time in Stable Diffusion XL, and its embedding."""
        if not self.pooled:
            return ()
        inputs = self.state.shape("label_emb.0.0.weight", 2)[1]
        each, rest = divmod(inputs - self.pooled, SizeCondition.IDS)
        if each < 1 or rest:
            raise ValueError(
                f"{self.state.path}label_emb.0.0.weight of the checkpoint takes {inputs} numbers: a pooled text state "
                f"of {self.pooled} and the features of {SizeCondition.IDS} sizes do not fit"
            )
        embedding = nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width))
        return SizeCondition(inputs, TimeFeatures(each, True, 0), self.upscaling), nn.Sequential(embedding)


def build_unet(state: StateDict, heads: Heads, pooled: int = 0, upscaling: int = 1) -> LatentUnet:
    """The U-Net that a state dict describes, with its weights."""
    with torch.device("meta"):
        unet = UnetReader(state, heads, pooled, upscaling).unet()
    return load_strictly(unet, state)
