"""diffusers' AutoencoderKL and VQModel, decoding alone: autoencoder.py's first stage from their names."""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from archive import blamed, load_checkpoint
from autoencoder import FirstStage, build_first_stage
from contract import sources
from diffusers_folder import CONFIG, Folder, is_folder_source, read_json
from state_dict import StateDict

BLOCKS = ("UpDecoderBlock2D", "AttnUpDecoderBlock2D")
# diffusers' names (of the attention also those before 0.18) -> the original's.
LEAVES = {
    "mid_block.resnets.0": "mid.block_1", "mid_block.resnets.1": "mid.block_2", "mid_block.attentions.0": "mid.attn_1",
    "conv_shortcut": "nin_shortcut", "conv_norm_out": "norm_out", "group_norm": "norm", "upsamplers.0": "upsample",
    "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out",
    "query": "q", "key": "k", "value": "v", "proj_attn": "proj_out",
}  # fmt: skip
_LEAF = re.compile("|".join(rf"(?<=\.){re.escape(name)}(?=\.)" for name in LEAVES))


def original_name(name: str, levels: int) -> str:
    """A decoder's entry under the original's name, where the levels are numbered from the finest."""
    name = _LEAF.sub(lambda found: LEAVES[found[0]], name)
    name = re.sub(r"\bup_blocks\.(\d+)\.", lambda found: f"up.{levels - 1 - int(found[1])}.", name)
    return re.sub(r"(?<=\.)(resnets|attentions)\.", lambda f: {"resnets": "block.", "attentions": "attn."}[f[1]], name)


def build_decoder(config: dict[str, Any], state: dict[str, Tensor]) -> FirstStage:
    """The decoder of an AutoencoderKL or VQModel, with its weights."""
    blocks = config.get("up_block_types", ["UpDecoderBlock2D"])
    unknown = [block for block in blocks if block not in BLOCKS]
    for key, usual in (("act_fn", "silu"), ("norm_type", "group")):
        if config.get(key, usual) != usual:
            unknown.append(f"{key} {config[key]}")
    if unknown:
        raise ValueError(f"the decoder's {unknown[0]} is not supported")
    state = {name: value for name, value in state.items() if not name.startswith(("encoder.", "quant_conv."))}
    entries = {}
    for name, value in state.items():
        original = original_name(name, len(blocks))
        linear = re.search(r"attn(_1|\.\d+)\.(q|k|v|proj_out)\.weight$", original) and value.dim() == 2
        entries[original] = value[:, :, None, None] if linear else value
    return build_first_stage(
        StateDict(entries), int(config.get("norm_num_groups", 32)), config.get("use_post_quant_conv", True)
    )


def read_decoder(source: Path, channels: int) -> tuple[FirstStage, dict[str, str]]:
    """The decoder of latents of so many channels, and its sources: a checkpoint of Stable Diffusion's autoencoder, or
    what diffusers saved of it, a folder or its file."""
    with blamed(source):
        if is_folder_source(source):
            part = Folder(source).component("vae")
            part.expect("AutoencoderKL")
            stage, read = build_decoder(part.config, part.weights()), part.sources()
        else:
            state, read, config = load_checkpoint(source), sources(source), source.parent / CONFIG
            if "decoder.conv_norm_out.weight" in state:
                levels = StateDict(state).under("decoder.up_blocks").count()
                blocks = {"up_block_types": [BLOCKS[0]] * levels}
                stage = build_decoder(read_json(config) if config.exists() else blocks, state)
            else:
                stage = build_first_stage(StateDict(state))
        takes = stage.decoder.conv_in.in_channels
        if takes != channels:
            raise ValueError(f"a decoder of {takes} channels does not fit a network of {channels}")
    return stage, read


def latent_scaling(config: dict[str, Any], channels: int) -> tuple[Tensor, Tensor]:
    """Scale and shift [1, C, 1, 1]: a decoder is given latent * scale + shift."""
    factor = float(config.get("scaling_factor") or 0.18215)
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if (mean is None) != (std is None):
        raise ValueError("the decoder's config has one of latents_mean and latents_std alone")
    if mean is None:
        mean, std = [float(config.get("shift_factor") or 0.0)], [1.0]
    elif len(mean) != channels or len(std) != channels:
        raise ValueError(f"latents_mean and latents_std of the decoder's config are not {channels} numbers each")
    view = lambda values: torch.tensor(values).reshape(1, -1, 1, 1)  # noqa: E731
    return view(std) / factor, view(mean)
