"""The U-Nets of guided diffusion (Dhariwal and Nichol 2021) and Consistency Models (Song et al. 2023).

Their layers are those that latent diffusion took over (ldm_unet.py), so the architecture is read from the state dict in
the same way. What differs: labels are added to the time embedding.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from ldm_unet import NUM_GROUPS, Stage
from state_dict import StateDict, load_strictly
from unet_reader import Heads, UnetReader, halved_without_weights, heads_of, resampling

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
        q, k, v = qkv.transpose(3, 4).contiguous().unbind(1)
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
    """Half a U-Net and a head: x [B, C, H, W], time features [B, width] -> logits [B, classes].

    The head takes the last features, or (`spatial`) the mean features of every block, joined.
    """

    def __init__(self, time_embed: nn.Module, blocks: list[Stage], middle_block: Stage, out: nn.Module, spatial: bool):
        super().__init__()
        self.classes = list(out.parameters())[-1].numel()  # the bias of the logits
        self.time_embed = time_embed
        self.input_blocks = nn.ModuleList(blocks)
        self.middle_block = middle_block
        self.out = out
        self.spatial = spatial

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        embedding = self.time_embed(noise)
        h = x
        means: list[Tensor] = []
        for block in self.input_blocks:
            h = block(h, embedding, None)
            means.append(h.mean((2, 3)))
        h = self.middle_block(h, embedding, None)
        means.append(h.mean((2, 3)))
        return self.out(torch.cat(means, 1) if self.spatial else h)


class OpenaiReader(UnetReader):
    """Builds the layers that a state dict of these models describes."""

    def labelled_unet(self) -> OpenaiUnet:
        plain = self.unet()
        label_emb = nn.Embedding(*self.state.shape("label_emb.weight", 2)) if "label_emb.weight" in self.state else None
        return OpenaiUnet(
            plain.time_embed,
            label_emb,
            list(plain.input_blocks),
            plain.middle_block,
            list(plain.output_blocks),
            plain.out,
        )

    def classifier(self, levels: int) -> Classifier:
        state = self.state
        width, channels = state.shape("time_embed.0.weight", 2)
        time_embed = nn.Sequential(nn.Linear(channels, width), nn.SiLU(), nn.Linear(width, width))
        inputs = state.under("input_blocks")
        count = count_with_gaps(inputs)
        if count % levels != 0:
            raise ValueError(
                f"the classifier's {count} input blocks are not those of {levels} levels: "
                "--resolution is missing or another"
            )
        plain = halved_without_weights(inputs, count)
        halves = range(count // levels, count, count // levels)
        blocks = [self.input_stage(i, "plain" if i in plain else "block" if i in halves else "") for i in range(count)]
        middle = self.middle()
        spatial = len(state.shape("out.0.weight", 1, 2)) == 2
        return Classifier(time_embed, blocks, middle, self.spatial_head() if spatial else self.pooled_head(), spatial)

    def pooled_head(self) -> nn.Module:
        """Logits of the last features, by an attention pool or by their mean."""
        state = self.state.under("out")
        channels = state.shape("0.weight", 1)[0]
        norm = nn.GroupNorm(NUM_GROUPS, channels)
        if "2.positional_embedding" not in state and "2.c_proj.weight" not in state:
            logits = nn.Conv2d(channels, state.shape("3.weight", 4)[0], 1)
            return nn.Sequential(norm, nn.SiLU(), nn.AdaptiveAvgPool2d(1), logits, nn.Flatten())
        tokens, classes = state.shape("2.positional_embedding", 2)[1], state.shape("2.c_proj.weight", 2, 3)[0]
        return nn.Sequential(
            norm, nn.SiLU(), AttentionPool(channels, tokens, classes, self.heads.count(channels, "out.2."))
        )

    def spatial_head(self) -> nn.Module:
        """Logits of the mean features of every block: the original's pools `spatial` and, with a norm, `spatial_v2`."""
        state = self.state.under("out")
        inner, features = state.shape("0.weight", 2)
        first = nn.Linear(features, inner)
        if "1.weight" in state:
            return nn.Sequential(
                first, nn.GroupNorm(NUM_GROUPS, inner), nn.SiLU(), nn.Linear(inner, state.shape("3.weight", 2)[0])
            )
        return nn.Sequential(first, nn.ReLU(), nn.Linear(inner, state.shape("2.weight", 2)[0]))


def count_with_gaps(blocks: StateDict) -> int:
    """One more than the highest number below `blocks`, of which some may have no entries."""
    return 1 + max((int(child) for child in blocks.children() if child.isdigit()), default=-1)


def pool_size(classifier: StateDict) -> int | None:
    """Pixels a side of the features that a classifier's attention pool takes; None for another pool."""
    name = "out.2.positional_embedding"
    return round((classifier.shape(name, 2)[1] - 1) ** 0.5) if name in classifier else None


def num_levels(unet: StateDict) -> int:
    """How many resolutions a U-Net works on."""
    return 1 + sum(map(bool, resampling(unet)))


def classifier_levels(state: StateDict, unet_levels: int, resolution: int | None) -> int:
    """How many resolutions a classifier works on.

    Halving by a convolution or without weights is seen. A residual block that halves has the same entries as one that
    does not: then the resolution and that of the attention pool tell; without them, as many as the U-Net's.
    """
    inputs, last = state.under("input_blocks"), pool_size(state)
    seen = sum(inputs.under(f"{i}.0").children() <= {"op"} for i in range(count_with_gaps(inputs)))
    if not (last and resolution):
        return 1 + seen if seen else unet_levels
    levels = 1 + seen if seen else max(1, (resolution // last).bit_length())
    if resolution != last << (levels - 1):
        raise ValueError(
            f"--resolution {resolution} does not fit a classifier of {levels} levels down to {last}x{last}"
        )
    return levels


def build_unet(weights: dict[str, Tensor], sizes: Any) -> OpenaiUnet:
    """The U-Net that a state dict describes, with its weights. What that does not tell: `sizes`, or as published."""
    state = StateDict(weights)
    with torch.device("meta"):
        network = OpenaiReader(state, heads_of(sizes, HEAD_CHANNELS)).labelled_unet()
    return load_strictly(network, state)


def build_classifier(weights: dict[str, Tensor], head_channels: int | None, levels: int) -> Classifier:
    """The classifier that a state dict describes, with its weights, working on so many resolutions."""
    state = StateDict(weights, "classifier: ")
    with torch.device("meta"):
        network = OpenaiReader(state, Heads(head_channels=head_channels or HEAD_CHANNELS)).classifier(levels)
    return load_strictly(network, state)
