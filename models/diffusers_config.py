"""config.json of diffusers' networks. A key that a config lacks has diffusers' default.

A value that is not supported is an error that names its key.
"""

from typing import Any

from diffusers_blocks import ACTIVATIONS

SHARED = {
    "center_input_sample": False,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "layers_per_block": 2,
    "downsample_padding": 1,
    "mid_block_scale_factor": 1,
    "act_fn": "silu",
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "norm_eps": 1e-5,
    "resnet_time_scale_shift": "default",
    "class_embed_type": None,
    "num_class_embeds": None,
}
DIT = {
    "num_attention_heads": 16,
    "out_channels": None,
    "activation_fn": "gelu-approximate",
    "norm_type": "ada_norm_zero",
    "norm_eps": 1e-5,
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "UNet2DModel": SHARED
    | {
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ["DownBlock2D"] + ["AttnDownBlock2D"] * 3,
        "mid_block_type": "UNetMidBlock2D",
        "up_block_types": ["AttnUpBlock2D"] * 3 + ["UpBlock2D"],
        "block_out_channels": [224, 448, 672, 896],
        "downsample_type": "conv",
        "upsample_type": "conv",
        "attn_norm_num_groups": None,
        "add_attention": True,
    },
    "UNet2DConditionModel": SHARED
    | {
        "in_channels": 4,
        "out_channels": 4,
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
        "block_out_channels": [320, 640, 1280, 1280],
        "only_cross_attention": False,
        "cross_attention_dim": 1280,
        "transformer_layers_per_block": 1,
        "reverse_transformer_layers_per_block": None,
        "encoder_hid_dim": None,
        "encoder_hid_dim_type": None,
        "use_linear_projection": False,
        "addition_embed_type": None,
        "addition_time_embed_dim": None,
        "projection_class_embeddings_input_dim": None,
        "resnet_skip_time_act": False,
        "resnet_out_scale_factor": 1.0,
        "conv_in_kernel": 3,
        "conv_out_kernel": 3,
        "num_attention_heads": None,
        "dual_cross_attention": False,
        "time_embedding_act_fn": None,
        "timestep_post_act": None,
        "time_cond_proj_dim": None,
        "attention_type": "default",
        "class_embeddings_concat": False,
    },
    "DiTTransformer2DModel": DIT
    | {
        "attention_head_dim": 72,
        "in_channels": 4,
        "num_layers": 28,
        "attention_bias": True,
        "sample_size": 32,
        "patch_size": 2,
        "num_embeds_ada_norm": 1000,
        "norm_elementwise_affine": False,
    },
    "Transformer2DModel": DIT
    | {
        "attention_head_dim": 88,
        "in_channels": None,
        "num_layers": 1,
        "attention_bias": False,
        "sample_size": None,
        "patch_size": None,
        "activation_fn": "geglu",
        "num_embeds_ada_norm": None,
        "norm_type": "layer_norm",
        "norm_elementwise_affine": True,
        "interpolation_scale": None,
        "cross_attention_dim": None,
        "num_vector_embeds": None,
        "only_cross_attention": False,
        "double_self_attention": False,
        "attention_type": "default",
        "caption_channels": None,
        "use_additional_conditions": None,
    },
}
# The values that are supported, of keys where others change what the network computes.
SUPPORTED: dict[str, tuple] = {
    "time_embedding_type": ("positional", "fourier"),
    "act_fn": tuple(ACTIVATIONS),
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "class_embed_type": (None,),
    "downsample_type": ("conv", "resnet"),
    "upsample_type": ("conv", "resnet"),
    "encoder_hid_dim_type": (None, "text_proj"),
    "addition_embed_type": (None, "text_time"),
    "mid_block_type": (None, "UNetMidBlock2D", "UNetMidBlock2DCrossAttn"),
    "downsample_padding": (0, 1),
    "dual_cross_attention": (False,),
    "time_embedding_act_fn": (None,),
    "timestep_post_act": (None,),
    "time_cond_proj_dim": (None,),
    "attention_type": ("default",),
    "norm_type": ("ada_norm_zero",),
    "activation_fn": ("gelu-approximate", "gelu", "geglu"),
    "class_embeddings_concat": (False,),
}


def is_number(value: Any) -> bool:
    return type(value) in (int, float)


class Config:
    """The values of a config.json, with the defaults of its class."""

    def __init__(self, config: dict[str, Any]):
        self.kind = config.get("_class_name")
        if not isinstance(self.kind, str) or self.kind not in DEFAULTS:
            raise ValueError(
                f"_class_name {self.kind!r} of the config is not supported: expected {', '.join(DEFAULTS)}"
            )
        self.conditional = self.kind == "UNet2DConditionModel"
        defaults = DEFAULTS[self.kind]
        self.values = defaults | {key: value for key, value in config.items() if key in defaults}
        for key, value in self.values.items():
            if key in SUPPORTED and value not in SUPPORTED[key]:
                self.refuse(key)
        if "block_out_channels" in self.values:
            self.check_unet()

    def check_unet(self) -> None:
        for key in ("num_class_embeds", "num_attention_heads"):  # the condition holds the text alone
            if self.conditional and self[key] is not None:
                self.refuse(key)
        if not self.conditional and self["mid_block_type"] == "UNetMidBlock2DCrossAttn":
            self.refuse("mid_block_type")
        for key, least in (("norm_eps", 0.0), ("mid_block_scale_factor", 1e-6), ("resnet_out_scale_factor", 1e-6)):
            if not is_number(self.values.get(key, 1)) or self.values.get(key, 1) < least:
                self.refuse(key)
        if not is_number(self["freq_shift"]):
            self.refuse("freq_shift")
        channels = self["block_out_channels"]
        if not isinstance(channels, (list, tuple)) or not channels:
            self.refuse("block_out_channels")
        self.count = len(channels)

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def refuse(self, key: str) -> None:
        raise ValueError(f"{key} {self[key]!r} of the config is not supported by this {self.kind}")

    def number(self, key: str) -> int:
        if type(self[key]) is not int or self[key] < 1:
            self.refuse(key)
        return self[key]

    def each(self, key: str, kind: type = int) -> list:
        """One value per level, downwards."""
        value = self[key]
        values = list(value) if isinstance(value, (list, tuple)) else [value] * self.count
        if len(values) != self.count or any(type(v) is not kind or (kind is int and v < 1) for v in values):
            self.refuse(key)
        return values

    def depths(self, key: str, layers: list[int]) -> list[list[int]]:
        """The transformer blocks of each attention of each level."""
        value = self[key]
        levels = list(value) if isinstance(value, (list, tuple)) else [value] * self.count
        if len(levels) != self.count:
            self.refuse(key)
        depths = [list(d) if isinstance(d, (list, tuple)) else [d] * n for d, n in zip(levels, layers)]
        if any(len(d) < n or any(type(v) is not int or v < 1 for v in d) for d, n in zip(depths, layers)):
            self.refuse(key)
        return depths
