"""DiT (Peebles & Xie 2023): a transformer over patches of Stable Diffusion's latents, with labels, as a denoiser.

The weights tell every size but the number of heads. Of its outputs the first half is the noise, the rest a learned
variance, which deterministic sampling does not use. The last row of the labels' table is the null class of guidance.
"""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from archive import blamed, found_in, unpacked
from autoencoder import FirstStage, ScaledLatents, latent_fact
from contract import make_facts, sources
from diffusers_decoder import read_decoder
from diffusers_folder import is_folder_source
from ldm import NoiseTable, TableTime
from preconditioning import NoiseDenoiser, NoiseFeatures, geometric_frequencies
from safe_load import Record, load
from state_dict import StateDict, load_strictly

SCALE_FACTOR = 0.18215  # of Stable Diffusion's latents
GUIDED_CHANNELS = 3  # of the four: the original samples so
HEADS = {384: 6, 768: 12, 1024: 16, 1152: 16}  # of the published widths (S, B, L, XL)


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer norm without weights, then a shift and a scale for each image."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale[:, None]) + shift[:, None]


class Attention(nn.Module):
    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, n, width = x.shape
        parts = self.qkv(x).reshape(b, n, 3, self.num_heads, width // self.num_heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4).contiguous().unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, width))


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class Block(nn.Module):
    """Attention and an MLP, each shifted, scaled and gated by the embedding c [B, width] of noise level and label."""

    def __init__(self, width: int, num_heads: int, hidden: int):
        super().__init__()
        self.attn = Attention(width, num_heads)
        self.mlp = Mlp(width, hidden)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(c).chunk(6, dim=1)
        x = x + gate1[:, None] * self.attn(modulated(x, shift1, scale1))
        return x + gate2[:, None] * self.mlp(modulated(x, shift2, scale2))


class FinalLayer(nn.Module):
    def __init__(self, width: int, outputs: int):
        super().__init__()
        self.linear = nn.Linear(width, outputs)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(c).chunk(2, dim=1)
        return self.linear(modulated(x, shift, scale))


class Transformer(nn.Module):
    """(x [B, C, H, W], time features, one-hot labels or None) -> [B, outputs, H, W]; parameters named as published."""

    def __init__(
        self, channels: int, patch: int, tokens: int, width: int, depth: int, num_heads: int, hidden: int,
        frequencies: int, classes: int, outputs: int
    ):  # fmt: skip
        super().__init__()
        self.patch, self.outputs = patch, outputs
        self.x_embedder = nn.ModuleDict({"proj": nn.Conv2d(channels, width, patch, stride=patch)})
        self.t_embedder = nn.ModuleDict(
            {"mlp": nn.Sequential(nn.Linear(frequencies, width), nn.SiLU(), nn.Linear(width, width))}
        )
        self.y_embedder = nn.ModuleDict({"embedding_table": nn.Embedding(classes + 1, width)})
        self.pos_embed = nn.Parameter(torch.empty(1, tokens, width))
        self.blocks = nn.ModuleList(Block(width, num_heads, hidden) for _ in range(depth))
        self.final_layer = FinalLayer(width, patch * patch * outputs)

    def forward(self, x: Tensor, noise: Tensor, condition: Tensor | None) -> Tensor:
        dtype = self.pos_embed.dtype
        table = self.y_embedder["embedding_table"].weight
        c = self.t_embedder["mlp"](noise.to(dtype))
        if condition is None:
            c = c + table[-1]
        else:
            labels = condition.to(dtype)
            c = c + labels @ table[:-1] + (1 - labels.sum(1, keepdim=True)) * table[-1]
        x = self.x_embedder["proj"](x.to(dtype))
        b, _, rows, columns = x.shape
        x = x.flatten(2).transpose(1, 2) + self.pos_embed
        for block in self.blocks:
            x = block(x, c)
        p = self.patch
        x = self.final_layer(x, c).reshape(b, rows, columns, p, p, self.outputs)
        return x.permute(0, 5, 1, 3, 2, 4).reshape(b, self.outputs, rows * p, columns * p)


def build_transformer(state: StateDict, num_heads: int | None = None, head_channels: int | None = None) -> Transformer:
    """The network of a state dict. The heads are given, or those of the published width."""
    width, channels, patch, other = state.shape("x_embedder.proj.weight", 4)
    if patch != other:
        raise ValueError(f"x_embedder.proj.weight of the checkpoint has patches of {patch}x{other}: expected squares")
    heads = num_heads or (width // head_channels if head_channels else HEADS.get(width))
    if heads is None:
        raise ValueError(f"the weights do not tell how many heads share their width {width}: give --num_heads")
    if not heads or width % heads:
        raise ValueError(f"{heads} heads do not divide the network's width {width}: give --num_heads")
    final = state.shape("final_layer.linear.weight", 2)[0]
    outputs, rest = divmod(final, patch * patch)
    if rest or outputs not in (channels, 2 * channels):
        raise ValueError(
            f"final_layer.linear.weight of the checkpoint makes {final} numbers for each patch of {patch}x{patch}: "
            f"expected {patch * patch} for each of {channels} or {2 * channels} channels"
        )
    tokens = state.shape("pos_embed", 3)[1]
    depth, hidden = state.under("blocks").count(), state.shape("blocks.0.mlp.fc1.weight", 2)[0]
    frequencies = state.shape("t_embedder.mlp.0.weight", 2)[1]
    classes = state.shape("y_embedder.embedding_table.weight", 2)[0] - 1
    if math.isqrt(tokens) ** 2 != tokens or frequencies % 2 or not classes:
        raise ValueError(
            f"the checkpoint has {tokens} positions, {frequencies} time features and {classes} labels beside the null "
            "class: expected a square, an even number, and labels"
        )
    with torch.device("meta"):
        network = Transformer(channels, patch, tokens, width, depth, heads, hidden, frequencies, classes, outputs)
    return load_strictly(network, state)


def features_of(network: Transformer) -> NoiseFeatures:
    return NoiseFeatures(geometric_frequencies(network.t_embedder["mlp"][0].in_features // 2))


class DitDenoiser(ScaledLatents, NoiseDenoiser):
    """The contract's module."""

    def __init__(self, network: Transformer, first_stage: FirstStage, table: NoiseTable, scale_factor: float):
        super().__init__(network, features_of(network), TableTime(table))
        self.first_stage, self.scale_factor = first_stage, scale_factor


def load_transformer(file: Path) -> tuple[StateDict, dict[str, Any]]:
    """The weights, averaged where there is a choice, and the training program's options where the file has them."""
    with unpacked(file) as path:
        content = load(path)
    arguments = content.get("args") if isinstance(content, dict) else None
    if isinstance(content, dict) and isinstance(content.get("ema"), dict):
        content = content["ema"]
    if not isinstance(content, dict) or not content or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"expected a state dict (names and tensors), found {found_in(content)}")
    return StateDict(content), arguments.state if isinstance(arguments, Record) else {}


def read_parts(files: list[Path], sizes: Any) -> tuple[Transformer, FirstStage, dict[str, Any], dict[str, Any]]:
    """Network, decoder, facts of both, and the training program's options, of a transformer and an autoencoder."""
    files = sorted(files, key=is_folder_source)  # a folder is the autoencoder's
    with blamed(files[0]):
        state, arguments = load_transformer(files[0])
        network = build_transformer(state, sizes.num_heads, sizes.head_channels)
        _, channels, patch, _ = network.x_embedder["proj"].weight.shape
        resolution = math.isqrt(network.pos_embed.shape[1]) * patch
        if sizes.resolution not in (None, resolution):
            raise ValueError(f"--resolution {sizes.resolution} does not fit a model of {resolution} latents a side")
    first_stage, decoder_sources = read_decoder(files[1], channels)
    label_dim = network.y_embedder["embedding_table"].num_embeddings - 1
    facts = dict(
        resolution=resolution,
        channels=channels,
        label_dim=label_dim,
        condition="label",
        label_format="onehot",
        precision="bfloat16",
        guided_channels=min(GUIDED_CHANNELS, channels),
        latent=latent_fact(first_stage, resolution),
        source=sources(files[0]) | decoder_sources,
    )
    return network, first_stage, facts, arguments


def read_model(name: str, files: list[Path], sizes: Any) -> tuple[nn.Module, dict[str, Any]]:
    """DiT's checkpoint, then the autoencoder's. The betas of its 1000 steps are evenly spaced."""
    network, first_stage, facts, _ = read_parts(files, sizes)
    table = NoiseTable((1 - torch.linspace(0.0001, 0.02, 1000, dtype=torch.float64)).cumprod(0))
    model = DitDenoiser(network, first_stage, table, sizes.scale_factor or SCALE_FACTOR)
    noise = {"kind": "table", "alphas_cumprod": (2 * table.log_alpha).exp().tolist()}
    facts = make_facts(dataset_name=name, sigma_min=table.sigma(1e-3), sigma_max=table.sigma(1.0), noise=noise, **facts)
    return model, facts
