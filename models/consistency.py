"""EDM models of the Consistency Models release (lsun_bedroom, lsun_cat): the OpenAI U-Net with EDM preconditioning."""

from pathlib import Path
from typing import Any

from torch import nn

from archive import load_checkpoint
from contract import make_facts, sources
from openai_unet import build_unet
from preconditioning import EdmDenoiser, NoiseFeatures, geometric_frequencies

RESOLUTION = 256  # as published; the weights do not tell
SIGMA_MIN, SIGMA_MAX = 0.002, 80.0


def read_model(name: str, files: list[Path], sizes: Any) -> tuple[nn.Module, dict[str, Any]]:
    """The denoiser of a checkpoint and its facts."""
    network = build_unet(load_checkpoint(files[0]), sizes)
    channels, outputs = network.input_blocks[0][0].in_channels, network.out[-1].out_channels
    if outputs != channels:  # a learned variance has no place in EDM's preconditioning, nor in the original's sampler
        raise ValueError(f"the U-Net makes {outputs} channels of {channels}: learn_sigma is not supported here")
    features = NoiseFeatures(geometric_frequencies(network.time_embed[0].in_features // 2))
    label_dim = 0 if network.label_emb is None else network.label_emb.num_embeddings
    facts = make_facts(
        dataset_name=name,
        resolution=sizes.resolution or RESOLUTION,
        channels=channels,
        sigma_min=SIGMA_MIN,
        sigma_max=SIGMA_MAX,
        label_dim=label_dim,
        condition="label" if label_dim else "none",
        label_format="index" if label_dim else None,
        precision="float16",
        source=sources(*files),
    )
    return EdmDenoiser(network, features, noise_scale=1000.0), facts
