"""Runs the original pixel-space programs on small models of synthetic weights: pixel_goldens.npz and edm_*.pkl.xz.

    python make_pixel_goldens.py --edm DIR --guided_diffusion DIR --consistency_models DIR

with checkouts of NVlabs/edm 008a4e5, openai/guided-diffusion 22e0df8, openai/consistency_models e32b69e, and torch,
numpy, requests, scipy, einops installed. Flash attention needs a GPU and is replaced by the same sum written out.

pixel_goldens.npz holds inputs, the originals' outputs, and as JSON (`recipes`) sizes and the seed from which
latent_support.py draws the weights. The pickles are those that EDM's own code writes, without its source text; their
parameters are zero and drawn anew by the test, except in edm_whole.pkl.xz, which is a whole tiny model.
"""

import argparse
import json
import lzma
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "models"))
from latent_support import synthetic_weights  # noqa: E402
from pixel_support import inputs  # noqa: E402

SONG = dict(img_resolution=16, img_channels=3, model_type="SongUNet", num_blocks=1, attn_resolutions=[8])
DHARIWAL = dict(
    img_resolution=16, img_channels=3, label_dim=5, model_type="DhariwalUNet", channel_mult=[1, 2], num_blocks=1
)
DDPMPP = dict(label_dim=0, model_channels=16, channel_mult=[1, 2], num_blocks=2, augment_dim=9, use_fp16=True)
NCSNPP = dict(
    label_dim=4, model_channels=16, channel_mult=[1, 2, 2], augment_dim=9, embedding_type="fourier",
    channel_mult_noise=2, encoder_type="residual", resample_filter=[1, 3, 3, 1],
)  # fmt: skip
SKIPS = dict(
    label_dim=4, model_channels=16, channel_mult=[1, 2, 1], encoder_type="skip", decoder_type="skip",
    resample_filter=[1, 3, 3, 1],
)  # fmt: skip
RESIDUAL = dict(
    img_channels=2, label_dim=0, model_channels=16, channel_mult=[1, 2, 1], encoder_type="residual", decoder_type="skip"
)  # fmt: skip
EDM_MODELS = {
    "ddpmpp": ("EDMPrecond", SONG | DDPMPP),
    "ncsnpp": ("EDMPrecond", SONG | NCSNPP),
    "skips": ("VEPrecond", SONG | SKIPS),
    "residual": ("VPPrecond", SONG | RESIDUAL),
    "adm": ("EDMPrecond", DHARIWAL | dict(model_channels=64, attn_resolutions=[8], use_fp16=True)),
    "iddpm": ("iDDPMPrecond", DHARIWAL | dict(model_channels=32, attn_resolutions=[16, 8], M=50)),
    "whole": ("EDMPrecond", SONG | dict(label_dim=3, model_channels=8, channel_mult=[1, 1], augment_dim=2)),
}
UNET = dict(
    image_size=16, in_channels=3, model_channels=32, out_channels=3, num_res_blocks=1, attention_resolutions=(2, 4),
    channel_mult=(1, 2, 2), num_head_channels=32, resblock_updown=True,
)  # fmt: skip
LABELLED = dict(
    num_res_blocks=2, channel_mult=(1, 2), num_head_channels=16, resblock_updown=False, use_scale_shift_norm=True,
    num_classes=7,
)  # fmt: skip
CONSISTENCY_MODELS = {"cm": UNET, "cm_labels": UNET | LABELLED}
POOLED = dict(UNET, out_channels=10, pool="attention")
GUIDED_MODELS = {
    "guided": (
        dict(UNET, out_channels=6, use_scale_shift_norm=True, num_classes=10),
        dict(POOLED, num_res_blocks=2, channel_mult=(1, 1, 2), use_scale_shift_norm=True),
    ),
    "guided_plain": (
        dict(UNET, num_res_blocks=2, attention_resolutions=(4,), resblock_updown=False, num_classes=10),
        dict(POOLED, attention_resolutions=(2,), channel_mult=(1, 2), resblock_updown=False),
    ),
}
# What a classifier may have instead of the published attention pool; one halves by averaging, one in residual blocks.
CLASSIFIERS = {
    "classifier_adaptive": dict(POOLED, pool="adaptive", resblock_updown=False, conv_resample=False),
    "classifier_spatial": dict(POOLED, pool="spatial"),
    "classifier_spatial_v2": dict(POOLED, pool="spatial_v2", use_scale_shift_norm=True, resblock_updown=False),
}


class Goldens:
    def __init__(self):
        self.recipes: dict[str, Any] = {}
        self.arrays: dict[str, numpy.ndarray] = {}

    def add(self, name: str, recipe: dict, **arrays: Tensor) -> None:
        self.recipes[name] = recipe
        self.arrays |= {f"{name}/{key}": value.detach().numpy() for key, value in arrays.items()}

    def write(self, path: Path) -> None:
        numpy.savez_compressed(
            path, recipes=numpy.frombuffer(json.dumps(self.recipes).encode(), numpy.uint8), **self.arrays
        )


def draw(module: nn.Module, seed: int) -> dict[str, list[int]]:
    """Give every parameter of the module its synthetic weights; returns their shapes."""
    shapes = {name: list(value.shape) for name, value in module.named_parameters()}
    weights = synthetic_weights(shapes, seed)
    with torch.no_grad():
        for name, value in module.named_parameters():
            value.copy_(weights[name])
    return shapes


def edm_goldens(goldens: Goldens, folder: str) -> None:
    sys.path.insert(0, folder)
    from training import networks

    for name, (preconditioning, options) in EDM_MODELS.items():
        torch.manual_seed(1)
        # The released pickles carry their module's source; ours must not.
        for kind in vars(networks).values():
            if hasattr(kind, "_orig_module_src"):
                kind._orig_module_src = "raise SystemExit('source of a checkpoint was run')"
        net = getattr(networks, preconditioning)(**options).eval().requires_grad_(False)
        shapes = draw(net.model, seed=2)
        x, sigma, labels = inputs(options["img_channels"], 16, options["label_dim"])
        arrays = {}
        if options["label_dim"]:
            arrays["unlabelled"] = net(x, sigma)
            labels = torch.nn.functional.one_hot(labels, options["label_dim"]).float()
        arrays["denoised"] = net(x, sigma, labels if options["label_dim"] else None)
        arrays["sigma_range"] = torch.tensor([net.sigma_min, net.sigma_max], dtype=torch.float64)
        goldens.add(
            name, dict(seed=2, shapes=shapes, channels=options["img_channels"], labels=options["label_dim"]), **arrays
        )
        if name != "whole":
            for parameter in net.parameters():
                parameter.zero_()
        with lzma.open(HERE / f"edm_{name}.pkl.xz", "wb") as file:
            pickle.dump(dict(ema=net, loss_fn=None, augment_pipe=None, dataset_kwargs=dict(path="data.zip")), file)


def import_as(name: str, path: Path, package: str) -> Any:
    """A file as a module of its own, its relative imports taken from `package`."""
    module = types.ModuleType(name)
    source = (
        path.read_text()
        .replace("from .fp16_util", f"from {package}.fp16_util")
        .replace("from .nn", f"from {package}.nn")
    )
    exec(compile(source, str(path), "exec"), module.__dict__)
    return module


class WrittenOutAttention(nn.Module):
    def __init__(self, **_options: Any):
        super().__init__()

    def forward(self, qkv: Tensor, **_options: Any) -> tuple[Tensor, None]:
        q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
        return (weights @ v).transpose(1, 2), None


def consistency_goldens(goldens: Goldens, folder: str) -> None:
    sys.modules["flash_attn"] = types.ModuleType("flash_attn")
    sys.modules["flash_attn.flash_attention"] = flash = types.ModuleType("flash_attn.flash_attention")
    flash.FlashAttention = WrittenOutAttention
    unet = import_as("consistency_unet", Path(folder) / "cm/unet.py", "guided_diffusion")
    for name, options in CONSISTENCY_MODELS.items():
        net = unet.UNetModel(**options).eval()
        shapes = draw(net, seed=3)
        x, sigma, labels = inputs(3, 16, options.get("num_classes", 0))
        label = labels if "num_classes" in options else None
        # The preconditioning of EDM, with the time 1000 ln(sigma) / 4.
        s = sigma[:, None, None, None]
        raw = net((1 / (s**2 + 0.25).sqrt()) * x, 1000 * (sigma.log() / 4), label)
        denoised = 0.25 / (s**2 + 0.25) * x + s * 0.5 / (s**2 + 0.25).sqrt() * raw
        recipe = dict(
            seed=3,
            shapes=shapes,
            channels=3,
            labels=options.get("num_classes", 0),
            head_channels=options["num_head_channels"],
        )
        goldens.add(name, recipe, denoised=denoised)


def guided_goldens(goldens: Goldens) -> None:
    from guided_diffusion.unet import EncoderUNetModel, UNetModel

    for name, (options, classifier_options) in GUIDED_MODELS.items():
        net, classifier = UNetModel(**options).eval(), EncoderUNetModel(**classifier_options).eval()
        shapes, classifier_shapes = draw(net, seed=3), draw(classifier, seed=4)
        x, sigma, labels = inputs(3, 16, 10)
        scaled = (x / (sigma**2 + 1).sqrt()[:, None, None, None]).requires_grad_(True)
        time = 999 * (((0.1**2 + 2 * 19.9 * (1 + sigma**2).log()).sqrt() - 0.1) / 19.9)
        noise = net(scaled, time, y=labels)[:, :3]
        log_prob = classifier(scaled, time).log_softmax(-1)[range(len(labels)), labels]
        gradient = torch.autograd.grad(log_prob.sum(), scaled)[0] / (sigma**2 + 1).sqrt()[:, None, None, None]
        recipe = dict(
            seed=3, shapes=shapes, classifier_seed=4, classifier_shapes=classifier_shapes, channels=3, labels=10
        )
        goldens.add(name, recipe, denoised=x - sigma[:, None, None, None] * noise, log_prob=log_prob, gradient=gradient)


def classifier_goldens(goldens: Goldens) -> None:
    from guided_diffusion.unet import EncoderUNetModel

    for name, options in CLASSIFIERS.items():
        classifier = EncoderUNetModel(**options).eval()
        shapes = draw(classifier, seed=4)
        x, sigma, _ = inputs(3, 16, 10)
        recipe = dict(seed=4, shapes=shapes, channels=3, labels=10, levels=len(options["channel_mult"]))
        goldens.add(name, recipe, logits=classifier(x / (sigma**2 + 1).sqrt()[:, None, None, None], sigma))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("edm", "guided_diffusion", "consistency_models"):
        parser.add_argument(f"--{name}", required=True, metavar="DIR")
    options = parser.parse_args()
    sys.path.insert(0, options.guided_diffusion)
    torch.set_num_threads(1)
    goldens = Goldens()
    edm_goldens(goldens, options.edm)
    consistency_goldens(goldens, options.consistency_models)
    guided_goldens(goldens)
    classifier_goldens(goldens)
    goldens.write(HERE / "pixel_goldens.npz")


if __name__ == "__main__":
    main()
