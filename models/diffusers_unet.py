"""UNet2DModel and UNet2DConditionModel of diffusers, built from their config.json and weights without diffusers."""

import re
from typing import Any

import torch
from torch import Tensor, nn

from diffusers_blocks import (
    ACTIVATIONS,
    ContextBlock,
    DownLevel,
    Downsample,
    Embedding,
    FourierFeatures,
    Middle,
    Nothing,
    Resnet,
    SelfAttention,
    Style,
    UpLevel,
    Upsample,
)
from diffusers_config import Config
from ldm_unet import SizeCondition, SpatialTransformer, TransformerBlock
from preconditioning import TimeFeatures
from state_dict import StateDict, load_strictly


class Unet(nn.Module):
    """The network's output of x [B, C, H, W] at a time [B]; condition: text states, or labels: one-hot or numbers."""

    def __init__(self, config: Config, upscaling: int):
        super().__init__()
        reader = Builder(config)
        channels = reader.channels
        fourier = config["time_embedding_type"] == "fourier"
        width = reader.style.embedding
        if not fourier:
            self.time_proj = TimeFeatures(channels[0], config["flip_sin_to_cos"], config["freq_shift"])
        elif config.conditional:
            self.time_proj = FourierFeatures(width // 2, config["flip_sin_to_cos"], log=False)
        else:
            self.time_proj = FourierFeatures(channels[0], False, log=True)
        features = width if fourier and config.conditional else channels[0] * (2 if fourier else 1)
        activation = config["act_fn"] if config.conditional else "silu"
        self.time_embedding = Embedding(features, width, activation)
        self.divide_by_time = fourier and not config.conditional
        self.centered = bool(config["center_input_sample"])
        self.class_embedding = (
            nn.Embedding(config.number("num_class_embeds"), width) if config["num_class_embeds"] else None
        )

        self.multiple = 2 ** (config.count - 1)  # of the heights and widths that it takes
        self.size_condition = self.add_embedding = self.encoder_hid_proj = None
        if config.conditional and config["addition_embed_type"]:
            inputs, each = map(config.number, ("projection_class_embeddings_input_dim", "addition_time_embed_dim"))
            features = TimeFeatures(each, config["flip_sin_to_cos"], config["freq_shift"])
            self.size_condition = SizeCondition(inputs, features, upscaling)
            if self.size_condition.pooled < 1:
                config.refuse("projection_class_embeddings_input_dim")
            self.add_embedding = Embedding(inputs, width)
        if config.conditional and (config["encoder_hid_dim"] or config["encoder_hid_dim_type"]):
            self.encoder_hid_proj = nn.Linear(config.number("encoder_hid_dim"), config.number("cross_attention_dim"))

        kernel = config.number("conv_in_kernel") if config.conditional else 3
        self.conv_in = nn.Conv2d(config.number("in_channels"), channels[0], kernel, padding=(kernel - 1) // 2)
        self.down_blocks = nn.ModuleList(reader.down(i) for i in range(config.count))
        self.mid_block = reader.middle()
        self.up_blocks = nn.ModuleList(reader.up(i) for i in range(config.count))
        self.conv_norm_out = reader.style.norm(channels[0])
        self.act = ACTIVATIONS[activation]()
        kernel = config.number("conv_out_kernel") if config.conditional else 3
        self.conv_out = nn.Conv2d(channels[0], config.number("out_channels"), kernel, padding=(kernel - 1) // 2)

    def forward(self, x: Tensor, time: Tensor, condition: Tensor | None = None) -> Tensor:
        embedding = self.time_embedding(self.time_proj(time))
        context = condition
        if self.class_embedding is not None and condition is not None:
            table = self.class_embedding.weight
            one_hot = condition.is_floating_point()
            embedding = embedding + (condition.to(table.dtype) @ table if one_hot else table[condition])
            context = None
        if self.add_embedding is not None and self.size_condition is not None and condition is not None:
            embedding = embedding + self.add_embedding(self.size_condition(x, condition))
            context = condition[:, :-1]
        if context is not None:
            context = context.to(embedding.dtype)
            if self.encoder_hid_proj is not None:
                context = self.encoder_hid_proj(context)

        h = x.to(embedding.dtype)
        h = self.conv_in(2 * h - 1 if self.centered else h)
        skips = [h]
        for level in self.down_blocks:
            h = level(h, skips, embedding, context)
        h = self.mid_block(h, embedding, context)
        for level in self.up_blocks:
            h = level(h, skips, embedding, context)
        h = self.conv_out(self.act(self.conv_norm_out(h)))
        return h / time.to(h.dtype)[:, None, None, None] if self.divide_by_time else h


class Builder:
    """Builds the levels that a config describes, from the top down, over the middle, and up again."""

    def __init__(self, config: Config):
        self.config = config
        self.channels = config.each("block_out_channels")
        self.layers = config.each("layers_per_block")
        if not config.conditional:
            config.number("layers_per_block")
        fourier = config.conditional and config["time_embedding_type"] == "fourier"
        width = config.number("time_embedding_dim") if config["time_embedding_dim"] else 0
        width = width or self.channels[0] * (2 if fourier else 4)
        scale_shift = config["resnet_time_scale_shift"] == "scale_shift"
        self.style = Style(width, config.number("norm_num_groups"), config["norm_eps"], scale_shift, config["act_fn"])
        heads = config["attention_head_dim"]
        self.head_dims = self.channels if heads is None else config.each("attention_head_dim")
        self.skips, self.width = [self.channels[0]], self.channels[0]

    def kind(self, i: int, way: str) -> str:
        """Of level i: Down, AttnDown, CrossAttnDown or ResnetDownsample, or the same with Up, without the way."""
        key = f"{way.lower()}_block_types"
        names = self.config[key]
        kinds = {f"{way}Block2D": "", f"Attn{way}Block2D": "Attn", f"Resnet{way}sampleBlock2D": "Resnet"}
        kinds |= {f"CrossAttn{way}Block2D": "CrossAttn"} if self.config.conditional else {}
        if not isinstance(names, (list, tuple)) or len(names) != self.config.count:
            self.config.refuse(key)
        name = str(names[i]).removeprefix("UNetRes")
        if name not in kinds:
            raise ValueError(f"{key} {names[i]!r} of the config is not supported by this {self.config.kind}")
        return kinds[name]

    def attention(self, kind: str, level: int, i: int, depth: int) -> nn.Module:
        """Of the level, which stands at place i of its way."""
        channels, config = self.channels[level], self.config
        if kind == "CrossAttn":
            return self.transformer(level, depth, config.each("only_cross_attention", bool)[level])
        if kind != "Attn":
            return Nothing()
        # On the way up the original counts the levels from the top here too.
        head = channels if config["attention_head_dim"] is None else self.head_dims[i]
        if head > channels:
            config.refuse("attention_head_dim")
        return SelfAttention(channels, head, self.style.norm(channels))

    def transformer(self, level: int, depth: int, context_only: bool = False) -> SpatialTransformer:
        """What the config calls the channels of a head here is the number of heads."""
        config, heads, channels = self.config, self.head_dims[level], self.channels[level]
        if config["attention_head_dim"] is None or channels < heads:
            config.refuse("attention_head_dim")
        self.style.norm(channels)
        width = config.each("cross_attention_dim")[level]
        inner, block = channels // heads * heads, ContextBlock if context_only else TransformerBlock
        blocks = [block(inner, inner, width, 4 * inner, heads) for _ in range(depth)]
        return SpatialTransformer(channels, inner, blocks, bool(config["use_linear_projection"]), self.style.groups)

    def resnet(self, kind: str, channels: int, out_channels: int, resample: nn.Module | None = None) -> Resnet:
        odd = kind == "Resnet" and self.config.conditional
        scale, plain = (
            (self.config["resnet_out_scale_factor"], self.config["resnet_skip_time_act"]) if odd else (1, False)
        )
        return Resnet(channels, out_channels, self.style, scale, resample, plain)

    def resampled(self, kind: str, key: str) -> bool:
        """Whether a residual block changes the resolution rather than a convolution."""
        return kind == "Resnet" or (kind == "Attn" and not self.config.conditional and self.config[key] == "resnet")

    def down(self, level: int) -> DownLevel:
        kind, channels, config = self.kind(level, "Down"), self.channels[level], self.config
        depths = config.depths("transformer_layers_per_block", self.layers)[level] if kind == "CrossAttn" else None
        resnets, attentions, downsamplers = [], [], []
        for j in range(self.layers[level]):
            resnets.append(self.resnet(kind, self.width, channels))
            attentions.append(self.attention(kind, level, level, depths[j] if depths else 0))
            self.width = channels
            self.skips.append(channels)
        if level < config.count - 1:
            pool = self.resampled(kind, "downsample_type")
            downsamplers = [
                self.resnet(kind, channels, channels, nn.AvgPool2d(2))
                if pool
                else Downsample(channels, config["downsample_padding"])
            ]
            self.skips.append(channels)
        return DownLevel(resnets, attentions, downsamplers)

    def middle(self) -> nn.Module:
        config, channels, style = self.config, self.channels[-1], self.style
        kind, scale = config["mid_block_type"], config["mid_block_scale_factor"]
        if kind is None:
            return Nothing()
        resnets = [Resnet(channels, channels, style, scale) for _ in range(2)]
        if kind == "UNetMidBlock2DCrossAttn":
            depth = config.depths("transformer_layers_per_block", [1] * config.count)[-1][0]
            return Middle(resnets, [self.transformer(-1, depth), Nothing()])
        if config.conditional:
            return Middle(resnets[:1], [Nothing()])
        if not config["add_attention"]:
            return Middle(resnets, [Nothing(), Nothing()])
        norm: nn.Module = nn.Identity()
        if config["attn_norm_num_groups"]:
            if channels % config.number("attn_norm_num_groups"):
                config.refuse("attn_norm_num_groups")
            norm = nn.GroupNorm(config["attn_norm_num_groups"], channels, eps=style.eps)
        elif not style.scale_shift:
            norm = style.norm(channels)
        head = self.head_dims[-1]
        if head > channels:
            config.refuse("attention_head_dim")
        return Middle(resnets, [SelfAttention(channels, head, norm, scale), Nothing()])

    def up(self, i: int) -> UpLevel:
        config, level = self.config, self.config.count - 1 - i
        kind, channels, count = self.kind(i, "Up"), self.channels[level], self.layers[level] + 1
        depths = None
        if kind == "CrossAttn":
            turned = config["reverse_transformer_layers_per_block"]
            key = "reverse_transformer_layers_per_block" if turned else "transformer_layers_per_block"
            nested = isinstance(config[key], (list, tuple)) and any(isinstance(d, (list, tuple)) for d in config[key])
            if nested and not turned:
                config.refuse(key)
            wanted = [n + 1 for n in self.layers]
            depths = config.depths(key, wanted[::-1] if turned else wanted)[i if turned else level]
        resnets, attentions = [], []
        for j in range(count):
            resnets.append(self.resnet(kind, self.width + self.skips.pop(), channels))
            attentions.append(self.attention(kind, level, i, depths[j] if depths else 0))
            self.width = channels
        if i == config.count - 1:
            return UpLevel(resnets, attentions, [])
        double = nn.Upsample(scale_factor=2.0, mode="nearest")
        pooled = self.resampled(kind, "upsample_type")
        return UpLevel(
            resnets, attentions, [self.resnet(kind, channels, channels, double) if pooled else Upsample(channels)]
        )


OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of diffusers before 0.15 under today's names of attention layers."""
    old = re.compile(r"(attentions\.\d+)\.(query|key|value|proj_attn)\.(weight|bias)$")
    return {old.sub(lambda m: f"{m[1]}.{OLD_NAMES[m[2]]}.{m[3]}", name): value for name, value in state.items()}


def build_unet(config: dict[str, Any], state: dict[str, Tensor], upscaling: int = 8) -> Unet:
    """The U-Net of a config.json, with its weights. `upscaling`: pixels of the image a pixel of the state (SDXL)."""
    with torch.device("meta"):
        network = Unet(Config(config), upscaling)
    return load_strictly(network, StateDict(renamed(state)))
