"""ADM of guided diffusion (imagenet256): a U-Net that predicts noise and its variance, and a classifier to guide it."""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from archive import load_checkpoint
from contract import make_facts, sources
from openai_unet import (
    Classifier,
    OpenaiUnet,
    build_classifier,
    build_unet,
    classifier_levels,
    num_levels,
    pool_size,
)
from preconditioning import NoiseDenoiser, NoiseFeatures, VpTime, geometric_frequencies
from state_dict import StateDict

BETA_D, BETA_MIN, STEPS = 19.9, 0.1, 1000
U_MIN = 1e-3  # the end of the process, sigma_min
RESOLUTION = 256  # as published, where the classifier's pool does not tell


class GuidedDenoiser(NoiseDenoiser):
    """A denoiser with the log-probability of labels given a noisy image."""

    def __init__(self, network: OpenaiUnet, classifier: Classifier, time: VpTime):
        super().__init__(network, time_features(network.time_embed), time)
        self.classifier = classifier
        self.classifier_features = time_features(classifier.time_embed)

    @torch.jit.export
    def log_prob(self, x: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
        """log p(label | x; sigma) [B]."""
        sigma = sigma.to(x.dtype)
        scaled = x / (sigma**2 + 1).sqrt()[:, None, None, None]
        logits = self.classifier(scaled, self.classifier_features(self.time(sigma)))
        return logits.log_softmax(1).gather(1, label[:, None]).squeeze(1)


def time_features(time_embed: nn.Module) -> NoiseFeatures:
    return NoiseFeatures(geometric_frequencies(time_embed[0].in_features // 2))


def check_pair(network: OpenaiUnet, classifier: Classifier) -> None:
    """Raises where U-Net and classifier do not go together. An unconditional U-Net is left to the classifier."""
    channels, outputs = network.input_blocks[0][0].in_channels, network.out[-1].out_channels
    judged = classifier.input_blocks[0][0].in_channels
    if judged != channels:
        raise ValueError(f"the U-Net takes {channels} channels, the classifier {judged}")
    if outputs not in (channels, 2 * channels):
        raise ValueError(
            f"the U-Net makes {outputs} channels of {channels}: neither the noise, nor the noise and its variance"
        )
    if network.label_emb is None:
        print("the U-Net knows no labels (no label_emb.weight): the classifier alone guides it", file=sys.stderr)
    elif network.label_emb.num_embeddings != classifier.classes:
        raise ValueError(
            f"the U-Net has {network.label_emb.num_embeddings} labels, the classifier {classifier.classes}"
        )


def read_model(name: str, files: list[Path], sizes: Any) -> tuple[nn.Module, dict[str, Any]]:
    """The diffusion model and the classifier, and their facts."""
    weights, classifier_weights = load_checkpoint(files[0]), load_checkpoint(files[1])
    for file, content, unet in ((files[0], weights, True), (files[1], classifier_weights, False)):
        if any(name.startswith("output_blocks.") for name in content) != unet:
            found = "no output blocks, as a classifier" if unet else "output blocks, as a U-Net"
            raise ValueError(f"{file} has {found}: the diffusion model comes first, then the classifier")
    network = build_unet(weights, sizes)
    levels = classifier_levels(StateDict(classifier_weights), num_levels(StateDict(weights)), sizes.resolution)
    classifier = build_classifier(classifier_weights, sizes.condition_head_channels or sizes.head_channels, levels)
    last = pool_size(StateDict(classifier_weights))
    resolution = sizes.resolution or (last << (levels - 1) if last else RESOLUTION)
    check_pair(network, classifier)
    time = VpTime(BETA_D, BETA_MIN, STEPS)
    facts = make_facts(
        dataset_name=name,
        resolution=resolution,
        channels=network.input_blocks[0][0].in_channels,
        sigma_min=time.sigma(U_MIN),
        sigma_max=time.sigma(1.0),
        label_dim=classifier.classes,
        condition="label",
        label_format="index",
        precision="float16",
        clamp=True,
        noise={"kind": "vp", "beta_d": BETA_D, "beta_min": BETA_MIN},
        classifier=True,
        source=sources(*files),
    )
    return GuidedDenoiser(network, classifier, time), facts
