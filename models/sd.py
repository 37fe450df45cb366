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
from ldm_unet import LatentUnet, build_unet


class TextLatentDenoiser(LatentDenoiser):
    """A latent denoiser whose condition is the text states [B, 77, W] that encode_text makes of tokens."""

    def __init__(self, network: LatentUnet, first_stage: FirstStage, noise: NoiseTable, scale_factor: float, text_encoder: TextEncoder):
        super().__init__(network, first_stage, noise, scale_factor)
        self.text_encoder = text_encoder

    @torch.jit.export
    def encode_text(self, tokens: Tensor) -> Tensor:
        return self.text_encoder(tokens)


def read_sd(state: dict[str, Tensor], *, num_heads: int = 8, head_channels: int = 64) -> TextLatentDenoiser:
    """The model of a Stable Diffusion 1 checkpoint (ms_coco), with its plain weights.

    num_heads: of the U-Net's attentions; head_channels: channels a head of the text encoder.
    """
    checkpoint = LatentCheckpoint(state)
    text = checkpoint.state.under(f"{checkpoint.TEXT}.transformer.text_model")
    surplus = [name for name in state if name.startswith(checkpoint.TEXT + ".") and not name.startswith(text.path)]
    if surplus:
        raise ValueError(f"the checkpoint's condition is not CLIP's text encoder alone: surplus {', '.join(surplus)}")
    unet = build_unet(checkpoint.unet(), num_heads=num_heads)
    first_stage = build_first_stage(checkpoint.state.under(checkpoint.FIRST_STAGE))
    text_encoder = build_text_encoder(text, head_channels)
    table = NoiseTable(checkpoint.noise_table(0.00085, 0.0120))
    return TextLatentDenoiser(unet, first_stage, table, checkpoint.scale_factor(0.18215), text_encoder)


def read_model(name: str, files: list[Path], sizes: Any) -> tuple[nn.Module, dict[str, Any]]:
    """ms_coco: the one checkpoint, as .ckpt or .safetensors. The tokenizer's files are clip_vocabulary.py's."""
    model = read_sd(load_checkpoint(files[0]), num_heads=sizes.num_heads or 8, head_channels=sizes.head_channels or 64)
    tokens, width = model.text_encoder.embeddings.position_embedding.weight.shape
    facts = latent_facts(
        model, name, sizes.resolution, condition="text", text={"tokens": tokens, "width": width}, source=sources(*files)
    )
    return model, facts
