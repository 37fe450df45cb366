"""ADM of guided diffusion (imagenet256): a U-Net that predicts noise and its variance, and a classifier to guide it."""

from pathlib import Path
from typing import Any

import torch
from archive import load_checkpoint
from contract import make_facts, sources
from openai_unet import (
    Classifier,
    OpenaiUnet,
    build_classifier,
    build_unet,
    num_levels,
    pool_size,
)
from preconditioning import NoiseDenoiser, NoiseFeatures, VpTime, geometric_frequencies
from state_dict import StateDict
from torch import Tensor, nn

BETA_D, BETA_MIN, STEPS = 19.9, 0.1, 1000
U_MIN = 1e-3  # the end of the process, sigma_min


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


def read_model(name: str, files: list[Path], sizes: Any) -> tuple[nn.Module, dict[str, Any]]:
    """The diffusion model and the classifier, and their facts."""
    weights, classifier_weights = load_checkpoint(files[0]), load_checkpoint(files[1])
    # As published, U-Net and classifier have as many levels: the classifier's last resolution gives the first.
    resolution = sizes.resolution or pool_size(StateDict(classifier_weights)) << (num_levels(StateDict(weights)) - 1)
    network = build_unet(weights, sizes)
    classifier = build_classifier(classifier_weights, sizes.head_channels, resolution)
    time = VpTime(BETA_D, BETA_MIN, STEPS)
    facts = make_facts(
        dataset_name=name,
        resolution=resolution,
        channels=network.input_blocks[0][0].in_channels,
        sigma_min=time.sigma(U_MIN),
        sigma_max=time.sigma(1.0),
        label_dim=classifier.out[-1].c_proj.out_channels,
        condition="label",
        label_format="index",
        precision="float16",
        clamp=True,
        noise={"kind": "vp", "beta_d": BETA_D, "beta_min": BETA_MIN},
        classifier=True,
        source=sources(*files),
    )
    return GuidedDenoiser(network, classifier, time), facts
