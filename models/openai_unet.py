"""The U-Nets of guided diffusion (Dhariwal and Nichol 2021) and Consistency Models (Song et al. 2023).

Their layers are those that latent diffusion took over (ldm_unet.py), so the architecture is read from the state dict in
the same way. What differs: labels are added to the time embedding.
"""

from typing import Any

import torch
from ldm_unet import NUM_GROUPS, Stage, UnetReader
from state_dict import StateDict, load_strictly
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

HEAD_CHANNELS = 64  # of an attention head, as published; the weights do not tell


class AttentionPool(nn.Module):
    """Features [B, C, H, W] -> [B, outputs]: the mean pixel attends to all pixels.

    The channels of qkv are (three, head, channel of the head).
    """

    def __init__(self, channels: int, tokens: int, outputs: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.positional_embedding = nn.Parameter(torch.empty(channels, tokens))
        self.qkv_proj = nn.Conv1d(channels, 3 * channels, 1)
        self.c_proj = nn.Conv1d(channels, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, c = x.shape[:2]
        tokens = x.flatten(2)
        tokens = torch.cat([tokens.mean(2, keepdim=True), tokens], dim=2) + self.positional_embedding
        qkv = self.qkv_proj(tokens).reshape(b, 3, self.num_heads, c // self.num_heads, tokens.shape[2])
        q, k, v = qkv.transpose(3, 4).unbind(1)
        pooled = scaled_dot_product_attention(q[:, :, :1], k, v)  # only the mean's result counts
        return self.c_proj(pooled.reshape(b, c, 1)).squeeze(2)


class OpenaiUnet(nn.Module):
    """F(x [B, C, H, W]; time features [B, model channels], label int64 [B]), in the dtype of the weights."""

    def __init__(
        self,
        time_embed: nn.Module,
        label_emb: nn.Module | None,
        input_blocks: list[Stage],
        middle_block: Stage,
        output_blocks: list[Stage],
        out: nn.Module,
    ):
        super().__init__()
        self.time_embed = time_embed
        self.label_emb = label_emb
        self.input_blocks = nn.ModuleList(input_blocks)
        self.middle_block = middle_block
        self.output_blocks = nn.ModuleList(output_blocks)
        self.out = out

    def forward(self, x: Tensor, noise: Tensor, label: Tensor | None) -> Tensor:
        dtype = self.time_embed[0].weight.dtype
        embedding = self.time_embed(noise.to(dtype))
        if self.label_emb is not None:
            assert label is not None, "this model needs a label"
            embedding = embedding + self.label_emb(label)
        h = x.to(dtype)
        skips: list[Tensor] = []
        for block in self.input_blocks:
            h = block(h, embedding, None)
            skips.append(h)
        h = self.middle_block(h, embedding, None)
        for block in self.output_blocks:
            h = block(torch.cat([h, skips.pop()], dim=1), embedding, None)
        return self.out(h)


class Classifier(nn.Module):
    """Half a U-Net and an attention pool: x [B, C, H, W], time features [B, width] -> logits [B, classes]."""

    def __init__(self, time_embed: nn.Module, input_blocks: list[Stage], middle_block: Stage, out: nn.Module):
        super().__init__()
        self.time_embed = time_embed
        self.input_blocks = nn.ModuleList(input_blocks)
        self.middle_block = middle_block
        self.out = out

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        embedding = self.time_embed(noise)
        h = x
        for block in self.input_blocks:
            h = block(h, embedding, None)
        return self.out(self.middle_block(h, embedding, None))


class OpenaiReader(UnetReader):
    """Builds the layers that a state dict of these models describes."""

    def labelled_unet(self) -> OpenaiUnet:
        plain = self.unet()
        label_emb = nn.Embedding(*self.state.shape("label_emb.weight")) if "label_emb.weight" in self.state else None
        return OpenaiUnet(
            plain.time_embed,
            label_emb,
            list(plain.input_blocks),
            plain.middle_block,
            list(plain.output_blocks),
            plain.out,
        )

    def classifier(self, resolution: int) -> Classifier:
        state = self.state
        width, channels = state.shape("time_embed.0.weight")
        time_embed = nn.Sequential(nn.Linear(channels, width), nn.SiLU(), nn.Linear(width, width))
        count, stride = state.under("input_blocks").count(), self.blocks_per_level(resolution)
        down = nn.AvgPool2d(2)
        inputs = [self.stage(f"input_blocks.{i}", down if i > 0 and i % stride == 0 else None) for i in range(count)]
        channels, tokens = state.shape("out.2.positional_embedding")
        outputs = state.shape("out.2.c_proj.weight")[0]
        pool = AttentionPool(channels, tokens, outputs, self.heads(channels, "out.2."))
        out = nn.Sequential(nn.GroupNorm(NUM_GROUPS, channels), nn.SiLU(), pool)
        return Classifier(time_embed, inputs, self.stage("middle_block"), out)

    def blocks_per_level(self, resolution: int) -> int:
        """Input blocks of one resolution, counting the one that halves it.

        A residual block that halves has the same entries as one that does not, but the attention pool tells the last
        resolution, and so the number of halvings.
        """
        count, last = self.state.under("input_blocks").count(), pool_size(self.state)
        halvings = (resolution // last).bit_length() - 1
        if resolution != last << halvings or count % (halvings + 1) != 0:
            raise ValueError(
                f"the classifier's {count} input blocks do not halve {resolution} to {last}: give --resolution"
            )
        return count // (halvings + 1)


def pool_size(state: StateDict) -> int:
    """Pixels a side of the features that a classifier's attention pool takes."""
    tokens = state.shape("out.2.positional_embedding")[1]
    return round((tokens - 1) ** 0.5)


def num_levels(state: StateDict) -> int:
    """How many resolutions a U-Net works on: one more than its output blocks double."""

    def doubles(block: StateDict) -> bool:
        last = block.under(str(block.count() - 1))
        return "conv.weight" in last or (block.count() > 1 and "in_layers.0.weight" in last)

    outputs = state.under("output_blocks")
    return 1 + sum(doubles(outputs.under(str(i))) for i in range(outputs.count()))


def build_unet(weights: dict[str, Tensor], sizes: Any) -> OpenaiUnet:
    """The U-Net that a state dict describes, with its weights. What that does not tell: `sizes`, or as published.

    Where `sizes` has num_heads, its head_channels are the classifier's alone.
    """
    state = StateDict(weights)
    head_channels = None if sizes.num_heads else sizes.head_channels or HEAD_CHANNELS
    with torch.device("meta"):
        network = OpenaiReader(state, sizes.num_heads, head_channels, sizes.new_attention_order).labelled_unet()
    return load_strictly(network, state)


def build_classifier(weights: dict[str, Tensor], head_channels: int | None, resolution: int) -> Classifier:
    """The classifier that a state dict describes, with its weights, for images of `resolution` pixels a side."""
    state = StateDict(weights, "classifier: ")
    with torch.device("meta"):
        network = OpenaiReader(state, None, head_channels or HEAD_CHANNELS).classifier(resolution)
    return load_strictly(network, state)
