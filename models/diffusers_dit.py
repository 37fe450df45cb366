"""DiT (Peebles & Xie 2023) as diffusers saves it: DiTTransformer2DModel, or Transformer2DModel with ada_norm_zero.

Each block has its own embedding of time and label there; those of the first block serve the last layer too.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, silu

from diffusers_blocks import Embedding
from diffusers_config import Config, is_number
from dit import modulated
from ldm_unet import CrossAttention, FeedForward
from preconditioning import TimeFeatures
from state_dict import StateDict, load_strictly

CLASSES = ("DiTTransformer2DModel", "Transformer2DModel")
TIME_FEATURES = 256
NOT_DIT = (
    "cross_attention_dim", "num_vector_embeds", "only_cross_attention", "double_self_attention", "caption_channels",
    "use_additional_conditions",
)  # fmt: skip


class Conditioning(nn.Module):
    """The embedding [B, W] of a time [B] and one-hot labels; zeros or None are the null class, the table's last row."""

    def __init__(self, width: int, classes: int):
        super().__init__()
        self.time_proj = TimeFeatures(TIME_FEATURES, True, 1)
        self.timestep_embedder = Embedding(TIME_FEATURES, width)
        self.class_embedder = nn.ModuleDict({"embedding_table": nn.Embedding(classes + 1, width)})

    def forward(self, time: Tensor, condition: Tensor | None) -> Tensor:
        table = self.class_embedder["embedding_table"].weight
        label = table[-1:]
        if condition is not None:
            one_hot = condition.to(table.dtype)
            label = one_hot @ table[:-1] + (1 - one_hot.sum(1, keepdim=True)) * table[-1]
        return self.timestep_embedder(self.time_proj(time)) + label


class Gelu(nn.Module):
    def __init__(self, width: int, approximate: str):
        super().__init__()
        self.proj = nn.Linear(width, 4 * width)
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        return gelu(self.proj(x), approximate=self.approximate)


class Block(nn.Module):
    def __init__(self, config: Config, width: int):
        super().__init__()
        heads, activation = config.number("num_attention_heads"), config["activation_fn"]
        conditioning = Conditioning(width, config.number("num_embeds_ada_norm"))
        self.norm1 = nn.ModuleDict({"emb": conditioning, "linear": nn.Linear(width, 6 * width)})
        self.attn1 = CrossAttention(width, width, width, heads, bool(config["attention_bias"]))
        self.norm3 = nn.LayerNorm(width, config["norm_eps"], bool(config["norm_elementwise_affine"]))
        self.ff = FeedForward(width, 4 * width)
        if activation != "geglu":
            self.ff.net[0] = Gelu(width, "tanh" if activation == "gelu-approximate" else "none")

    def forward(self, x: Tensor, time: Tensor, condition: Tensor | None) -> Tensor:
        modulation = self.norm1["linear"](silu(self.norm1["emb"](time, condition)))
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.chunk(6, dim=1)
        x = x + gate1[:, None] * self.attn1(modulated(x, shift1, scale1), None)
        return x + gate2[:, None] * self.ff(self.norm3(x) * (1 + scale2[:, None]) + shift2[:, None])


class Transformer(nn.Module):
    """The network's output of x [B, C, H, W] at a time [B], with one-hot labels or None."""

    multiple = 0  # positions are those of one size

    def __init__(self, config: Config, resolution: int):
        super().__init__()
        for key in NOT_DIT:
            if config.values.get(key):
                config.refuse(key)
        if not is_number(config["norm_eps"]) or config["norm_eps"] < 0:
            config.refuse("norm_eps")
        channels, self.patch = config.number("in_channels"), config.number("patch_size")
        if resolution % self.patch:
            raise ValueError(f"patch_size {self.patch} of the config does not divide the state's {resolution} pixels")
        width = config.number("num_attention_heads") * config.number("attention_head_dim")
        self.outputs = channels if config["out_channels"] is None else config.number("out_channels")
        self.pos_embed = nn.ModuleDict({"proj": nn.Conv2d(channels, width, self.patch, stride=self.patch)})
        self.positions = nn.Parameter(torch.empty((resolution // self.patch) ** 2, width))
        self.transformer_blocks = nn.ModuleList(Block(config, width) for _ in range(config.number("num_layers")))
        self.proj_out_1 = nn.Linear(width, 2 * width)
        self.proj_out_2 = nn.Linear(width, self.patch**2 * self.outputs)

    def forward(self, x: Tensor, time: Tensor, condition: Tensor | None = None) -> Tensor:
        x = self.pos_embed["proj"](x.to(self.positions.dtype))
        b, _, rows, columns = x.shape
        x = x.flatten(2).transpose(1, 2) + self.positions
        for block in self.transformer_blocks:
            x = block(x, time, condition)
        last = self.proj_out_1(silu(self.transformer_blocks[0].norm1["emb"](time, condition)))
        shift, scale = last.chunk(2, dim=1)
        p = self.patch
        x = self.proj_out_2(modulated(x, shift, scale)).reshape(b, rows, columns, p, p, self.outputs)
        return x.permute(0, 5, 1, 3, 2, 4).reshape(b, self.outputs, rows * p, columns * p)


def positions(config: Config, resolution: int) -> Tensor:
    """sin and cos of each patch's column, then of its row: [patches, W]; numbered as if the size were sample_size."""
    width = config.number("num_attention_heads") * config.number("attention_head_dim")
    count, sample_size = resolution // config.number("patch_size"), config["sample_size"] or resolution
    scale = config.values.get("interpolation_scale")
    if scale is None:
        scale = max(sample_size // 64, 1) if config.kind == "Transformer2DModel" else 1
    if not is_number(scale) or scale <= 0:
        config.refuse("interpolation_scale")
    if width % 4:
        raise ValueError(f"the network's width {width} does not divide by 4")
    places = torch.arange(count, dtype=torch.float32) / (count / (sample_size // config["patch_size"])) / scale
    angles = places[:, None].double() / 10000 ** (torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    waves = torch.cat([angles.sin(), angles.cos()], 1).float()
    return torch.cat([waves.repeat(count, 1), waves.repeat_interleave(count, 0)], 1)


def build_dit(values: dict[str, Any], state: dict[str, Tensor], resolution: int) -> Transformer:
    """The transformer of a config.json, with its weights."""
    config = Config(values)
    with torch.device("meta"):
        network = Transformer(config, resolution)
    entries = {name: value for name, value in state.items() if name != "pos_embed.pos_embed"}  # of old folders
    return load_strictly(network, StateDict(entries | {"positions": positions(config, resolution)}))
