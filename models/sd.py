"""Stable Diffusion 1 (Rombach et al. 2022) as a denoiser with a text condition."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from archive import load_checkpoint
from autoencoder import FirstStage, build_first_stage
from clip import TextEncoder, build_text_encoder
from contract import sources
from ldm import LatentCheckpoint, LatentDenoiser, NoiseTable, latent_facts
from ldm_unet import LatentUnet
from safe_load import some
from unet_reader import Heads, build_unet

# As published; the weights do not tell.
NUM_HEADS = 8  # of the U-Net's attentions
TEXT_HEAD_CHANNELS = 64  # of a head of the text encoder's


class TextLatentDenoiser(LatentDenoiser):
    """A latent denoiser whose condition is the text states [B, 77, W] that encode_text makes of tokens."""

    def __init__(
        self,
        network: LatentUnet,
        first_stage: FirstStage,
        noise: NoiseTable,
        scale_factor: float,
        text_encoder: TextEncoder,
    ):
        super().__init__(network, first_stage, noise, scale_factor)
        self.text_encoder = text_encoder

    @torch.jit.export
    def encode_text(self, tokens: Tensor) -> Tensor:
        return self.text_encoder(tokens)


def read_sd(
    state: dict[str, Tensor],
    heads: Heads = Heads(NUM_HEADS),
    text_head_channels: int = TEXT_HEAD_CHANNELS,
    scale_factor: float | None = None,
    file: Path | None = None,
) -> TextLatentDenoiser:
    """The model of a Stable Diffusion 1 checkpoint (ms_coco), with its plain weights."""
    checkpoint = LatentCheckpoint(state)
    text = checkpoint.state.under(f"{checkpoint.TEXT}.transformer.text_model")
    if not text:
        raise ValueError(
            f"the checkpoint has no entry below {text.path}: its text encoder is not CLIP's of Stable Diffusion 1"
        )
    surplus = [name for name in state if name.startswith(checkpoint.TEXT + ".") and not name.startswith(text.path)]
    if surplus:
        raise ValueError(f"the checkpoint's condition is not CLIP's text encoder alone: surplus {some(surplus)}")
    unet = build_unet(checkpoint.unet(), heads)
    first_stage = build_first_stage(checkpoint.state.under(checkpoint.FIRST_STAGE))
    text_encoder = build_text_encoder(text, text_head_channels)
    table = NoiseTable(checkpoint.noise_table(0.00085, 0.0120))
    return TextLatentDenoiser(
        unet, first_stage, table, checkpoint.scale_factor(0.18215, scale_factor, file), text_encoder
    )


def read_model(name: str, files: list[Path], sizes: Any) -> tuple[nn.Module, dict[str, Any]]:
    """ms_coco: the one checkpoint, as .ckpt or .safetensors. The tokenizer's files are clip_vocabulary.py's."""
    # Channels of a head are the text encoder's, unless those stand in an option of their own.
    unet_channels = sizes.head_channels if sizes.condition_head_channels and not sizes.num_heads else None
    num_heads = None if unet_channels else sizes.num_heads or NUM_HEADS
    heads = Heads(num_heads, unet_channels, sizes.new_attention_order, sizes.num_heads_upsample)
    text_head_channels = sizes.condition_head_channels or sizes.head_channels or TEXT_HEAD_CHANNELS
    model = read_sd(load_checkpoint(files[0]), heads, text_head_channels, sizes.scale_factor, files[0])
    tokens, width = model.text_encoder.embeddings.position_embedding.weight.shape
    facts = latent_facts(
        model, name, sizes.resolution, condition="text", text={"tokens": tokens, "width": width}, source=sources(*files)
    )
    return model, facts
