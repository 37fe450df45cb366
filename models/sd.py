"""Stable Diffusion 1 and 2 (Rombach et al. 2022) and XL (Podell et al. 2023), single files in the original layout."""

import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from archive import load_checkpoint
from autoencoder import build_first_stage, upscaling
from clip import build_text_encoder
from contract import sources
from diffusers_schedule import with_zero_terminal_snr
from diffusers_text import END, OneText, TwoTexts, check_vocabulary, projection_of
from ldm import LatentCheckpoint, LatentDenoiser, NoiseTable, latent_facts
from ldm_unet import Downsample
from safe_load import some
from state_dict import StateDict
from unet_reader import Heads, build_unet


class Kind(NamedTuple):
    """What the weights do not tell, as published; `text` is where the entries of the text encoders stand."""

    name: str
    text: tuple[str, ...]
    heads: Heads
    scale_factor: float
    prediction: str
    resolution: dict[str, int]  # of the latents, by what is predicted


KINDS = (
    Kind("1", ("cond_stage_model.transformer.text_model",), Heads(8), 0.18215, "epsilon", {}),
    Kind("2", ("cond_stage_model.model",), Heads(head_channels=64), 0.18215, "v_prediction", {"v_prediction": 96}),
    Kind(
        "XL",
        ("conditioner.embedders.0.transformer.text_model", "conditioner.embedders.1.model"),
        Heads(head_channels=64),
        0.13025,
        "epsilon",
        {"epsilon": 128, "v_prediction": 128},
    ),
)
TEXT_HEAD_CHANNELS = 64  # of a head of every published text encoder
OPENCLIP_LAYERS = 24  # of Stable Diffusion 2's text encoder, which reads the states before the last
V_MARK, ZERO_SNR_MARK = "v_pred", "ztsnr"  # entries that later models of this layout carry as a note
OPENCLIP = {  # its names -> transformers', by parts
    "positional_embedding": "embeddings.position_embedding.weight", "token_embedding": "embeddings.token_embedding",
    "transformer.resblocks": "encoder.layers", "ln_final": "final_layer_norm", "ln_1": "layer_norm1",
    "ln_2": "layer_norm2", "attn": "self_attn", "c_fc": "fc1", "c_proj": "fc2",
}  # fmt: skip
_PART = re.compile("|".join(rf"(?<![^.]){re.escape(name)}(?![^.])" for name in OPENCLIP))


class TextLatentDenoiser(LatentDenoiser):
    """A latent denoiser whose condition is the text states [B, rows, W] that encode_text makes of tokens."""

    def __init__(self, text_encoder: nn.Module, *denoiser: Any):
        super().__init__(*denoiser)
        self.text_encoder = text_encoder

    @torch.jit.export
    def encode_text(self, tokens: Tensor) -> Tensor:
        return self.text_encoder(tokens)


def kind_of(state: StateDict) -> Kind:
    """Which Stable Diffusion it is, by its text encoders; no others are there."""
    if state.under("conditioner.embedders.0.model"):
        raise ValueError("the checkpoint is the refiner of Stable Diffusion XL, which sees an image: not supported")
    kind = next((kind for kind in KINDS if all(state.under(path) for path in kind.text)), None)
    if kind is None:
        wanted = ", ".join(path + "." for kind in KINDS for path in kind.text)
        raise ValueError(f"the checkpoint has no text encoder of Stable Diffusion 1, 2 or XL (entries below {wanted})")
    known = tuple(path + "." for path in kind.text)
    surplus = [name for name in state.entries if name.startswith(LatentCheckpoint.TEXTS) and not name.startswith(known)]
    if surplus:
        raise ValueError(f"the checkpoint's condition is not CLIP's text encoder alone: surplus {some(surplus)}")
    return kind


def as_transformers(state: StateDict) -> StateDict:
    """OpenCLIP's entries under transformers' names. OpenCLIP stacks the weights of q, k and v."""
    entries = {}
    for name, value in state.entries.items():
        name = _PART.sub(lambda found: OPENCLIP[found[0]], name)
        stacked = re.fullmatch(r"(.*)\.in_proj_(weight|bias)", name)
        if stacked and value.dim():
            entries |= {f"{stacked[1]}.{part}_proj.{stacked[2]}": rows for part, rows in zip("qkv", value.chunk(3))}
        elif name not in ("logit_scale", "attn_mask", "text_projection"):
            entries[name] = value
    return StateDict(entries, state.path)


def read_text(state: StateDict, kind: Kind, head_channels: int) -> OneText | TwoTexts:
    """The module from tokens to states. OpenCLIP pads with 0."""
    parts = [state.under(path) for path in kind.text]
    build = lambda entries, *options: check_vocabulary(build_text_encoder(entries, head_channels, *options))  # noqa: E731
    if kind.name == "1":
        return OneText(build(parts[0]), END)
    openclip = as_transformers(parts[-1])
    if kind.name == "2":
        count = openclip.under("encoder.layers").count()
        last = f"encoder.layers.{count if count == OPENCLIP_LAYERS - 1 else count - 1}."  # some files leave it out
        openclip.entries = {name: value for name, value in openclip.entries.items() if not name.startswith(last)}
        return OneText(build(openclip, "gelu"), 0)
    parts[1].shape("text_projection", 2)
    weight = StateDict({"weight": parts[1].entries["text_projection"].t().contiguous()}, parts[1].path)
    return TwoTexts([build(parts[0]), build(openclip, "gelu")], [END, 0], projection_of(weight), END)


def read_sd(
    state: dict[str, Tensor],
    heads: Heads | None = None,
    text_head_channels: int = TEXT_HEAD_CHANNELS,
    scale_factor: float | None = None,
    file: Path | None = None,
    prediction: str | None = None,
) -> TextLatentDenoiser:
    """The model of a Stable Diffusion checkpoint, with its plain weights."""
    checkpoint = LatentCheckpoint(state)
    kind = kind_of(checkpoint.state)
    text_encoder = read_text(checkpoint.state, kind, text_head_channels)
    first_stage = build_first_stage(checkpoint.state.under(checkpoint.FIRST_STAGE))
    pooled = text_encoder.projection.out_features if isinstance(text_encoder, TwoTexts) else 0
    unet = build_unet(checkpoint.unet(), heads or kind.heads, pooled, upscaling(first_stage))
    table = checkpoint.noise_table(0.00085, 0.0120)
    table = NoiseTable(with_zero_terminal_snr(table) if ZERO_SNR_MARK in state else table)
    factor = checkpoint.scale_factor(kind.scale_factor, scale_factor, file)
    return TextLatentDenoiser(text_encoder, unet, first_stage, table, factor, prediction or kind.prediction)


def prediction_of(file: Path, state: dict[str, Tensor], kind: Kind, given: str | None) -> str:
    """What the network predicts: as given, as the file notes, or as published, which is said of 2 and XL."""
    if given not in (None, "epsilon", "v_prediction"):
        raise ValueError(f"--prediction_type {given}: single files of Stable Diffusion have epsilon or v_prediction")
    if not given and V_MARK not in state and kind.name != "1":
        print(
            f"export: {file.name} does not say what its network predicts: {kind.prediction} is taken, as of the "
            f"published Stable Diffusion {kind.name}; --prediction_type gives another",
            file=sys.stderr,
        )
    return given or ("v_prediction" if V_MARK in state else kind.prediction)


def read_model(name: str, files: list[Path], sizes: Any) -> tuple[nn.Module, dict[str, Any]]:
    """The one checkpoint, as .ckpt or .safetensors. The tokenizer's files are clip_vocabulary.py's."""
    # Channels of a head are the text encoder's, unless those stand in an option of their own.
    unet_channels = sizes.head_channels if sizes.condition_head_channels and not sizes.num_heads else None
    heads = (
        Heads(sizes.num_heads, unet_channels, sizes.new_attention_order, sizes.num_heads_upsample)
        if sizes.num_heads or unet_channels
        else None
    )
    text_head_channels = sizes.condition_head_channels or sizes.head_channels or TEXT_HEAD_CHANNELS
    state = load_checkpoint(files[0])
    kind = kind_of(LatentCheckpoint(state).state)
    prediction = prediction_of(files[0], state, kind, sizes.prediction_type)
    model = read_sd(state, heads, text_head_channels, sizes.scale_factor, files[0], prediction)
    resolution = sizes.resolution or kind.resolution.get(prediction)
    facts = latent_facts(
        model, name, resolution, condition="text", text=model.text_encoder.fact(), source=sources(*files)
    )
    multiple = 2 ** sum(isinstance(layer, Downsample) for layer in model.network.modules())
    if facts["resolution"] % multiple == 0:
        facts["sizes"] = {"multiple": multiple}
    return model, facts
