"""Runs the original EDM2, DiT and SiT on small models of synthetic weights: transformer_goldens.npz, edm_edm2_*.pkl.xz.

    python make_transformer_goldens.py --edm2 DIR --dit DIR --sit DIR

with checkouts of NVlabs/edm2 4bf8162, facebookresearch/DiT ed81ce2, willisma/SiT 796c29e, and torch, numpy, click, tqdm,
Pillow, torchdiffeq installed. The three layers that DiT takes from timm are written out. The arrays and the pickles are
as make_pixel_goldens.py makes them; `trajectory` is what the original's own sampler makes of `x` at its largest time.
"""

import argparse
import lzma
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from make_pixel_goldens import Goldens, draw

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "models"))
from pixel_support import inputs  # noqa: E402

TINY = dict(img_resolution=16, img_channels=3, label_dim=5, model_channels=16, channels_per_head=16)
EDM2_MODELS = {
    "pixel": TINY | dict(channel_mult=[1, 2], num_blocks=1, attn_resolutions=[8]),
    "guide": TINY | dict(label_dim=0, channel_mult=[1, 1], num_blocks=1, attn_resolutions=[]),
    "odd": TINY
    | dict(
        label_dim=0, channel_mult=[1, 2, 2], num_blocks=2, attn_resolutions=[16, 4], resample_filter=[1, 3, 3, 1],
        clip_act=None, concat_balance=0.3, res_balance=0.4, channel_mult_noise=2, channel_mult_emb=3, use_fp16=False,
    ),
    "latent": TINY | dict(img_channels=4, channel_mult=[1, 2], num_blocks=1, attn_resolutions=[8], label_balance=0.3),
}  # fmt: skip
DIT = dict(input_size=16, patch_size=2, hidden_size=48, depth=2, num_heads=6, num_classes=5)


class PatchEmbed(nn.Module):
    def __init__(self, size: int, patch: int, channels: int, width: int, bias: bool):
        super().__init__()
        self.patch_size, self.num_patches = (patch, patch), (size // patch) ** 2
        self.proj = nn.Conv2d(channels, width, patch, stride=patch, bias=bias)

    def forward(self, x):
        return self.proj(x).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    def __init__(self, width: int, num_heads: int, qkv_bias: bool):
        super().__init__()
        self.num_heads = num_heads
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=qkv_bias), nn.Linear(width, width)

    def forward(self, x):
        heads = [part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1)]
        weights = (heads[0] @ heads[1].transpose(-1, -2) / heads[0].shape[-1] ** 0.5).softmax(-1)
        return self.proj((weights @ heads[2]).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, in_features: int, hidden_features: int, act_layer: Any, drop: float):
        super().__init__()
        self.fc1, self.act = nn.Linear(in_features, hidden_features), act_layer()
        self.fc2 = nn.Linear(hidden_features, in_features)

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


def edm2_goldens(goldens: Goldens, folder: str) -> None:
    sys.path.insert(0, folder)
    from generate_images import edm_sampler
    from training import encoders, networks_edm2

    made = {}
    for name, options in EDM2_MODELS.items():
        torch.manual_seed(1)
        for kind in (*vars(networks_edm2).values(), *vars(encoders).values()):
            if hasattr(kind, "_orig_module_src"):
                kind._orig_module_src = "raise SystemExit('source of a checkpoint was run')"
        net = made[name] = networks_edm2.Precond(**options).eval().requires_grad_(False)
        for buffer in net.buffers():
            buffer.copy_(buffer.half())  # the pickles hold halves
        shapes = draw(net.unet, seed=2)
        x, sigma, labels = inputs(options["img_channels"], 16, options["label_dim"])
        one_hot = F.one_hot(labels, options["label_dim"]).float() if options["label_dim"] else None
        arrays = {"denoised": net(x, sigma, one_hot)}
        if options["label_dim"]:
            arrays["unlabelled"] = net(x, sigma)
        if name == "guide":
            draw(made["pixel"].unet, seed=2)
            noise, labels = inputs(3, 16, 5)[0] / 60, F.one_hot(inputs(3, 16, 5)[2], 5).float()
            arrays["trajectory"] = edm_sampler(made["pixel"], noise, labels, net, num_steps=5, guidance=1.7)
        recipe = dict(seed=2, shapes=shapes, channels=options["img_channels"], labels=options["label_dim"])
        goldens.add(f"edm2_{name}", recipe, **arrays)
        encoder = encoders.StabilityVAEEncoder() if name == "latent" else encoders.StandardRGBEncoder()
        for parameter in net.parameters():
            parameter.zero_()
        with lzma.open(HERE / f"edm_edm2_{name}.pkl.xz", "wb") as file:
            pickle.dump(dict(ema=net, encoder=encoder, dataset_kwargs=dict(path="data.zip")), file)


def dit_goldens(goldens: Goldens, dit: str, sit: str) -> None:
    timm = types.ModuleType("timm.models.vision_transformer")
    timm.PatchEmbed, timm.Attention, timm.Mlp = PatchEmbed, Attention, Mlp
    sys.modules |= {"timm": timm, "timm.models": timm, "timm.models.vision_transformer": timm}
    sys.path.insert(0, sit)
    from transport import Sampler, create_transport

    x, sigma, labels = inputs(4, 16, 5)
    plain = dict(learn_sigma=False, patch_size=4)
    cases = {"dit": (dit, "DiT", {}), "dit_plain": (dit, "DiT", plain), "sit": (sit, "SiT", {})}
    for name, (folder, kind, options) in cases.items():
        module = types.ModuleType(name)
        exec(compile((Path(folder) / "models.py").read_text(), name, "exec"), module.__dict__)
        net = getattr(module, kind)(**(DIT | options)).eval().requires_grad_(False)
        shapes = draw(net, seed=3)
        null = torch.full_like(labels, 5)
        times = torch.tensor([0.1, 0.4, 0.9]) if name == "sit" else torch.tensor([3.0, 412.0, 998.0])
        arrays = dict(times=times, raw=net(x, times, labels)[:, :4], unlabelled=net(x, times, null)[:, :4])
        if name == "sit":
            sample = Sampler(create_transport()).sample_ode(sampling_method="euler", num_steps=5)
            twice = dict(y=torch.cat([labels, null]), cfg_scale=2.5)
            arrays["trajectory"] = sample(torch.cat([x, x]), net.forward_with_cfg, **twice)[-1][: len(x)]
        goldens.add(name, dict(seed=3, shapes=shapes, channels=4, labels=5, heads=6), **arrays)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("edm2", "dit", "sit"):
        parser.add_argument(f"--{name}", required=True, metavar="DIR")
    options = parser.parse_args()
    torch.set_num_threads(1)
    goldens = Goldens()
    edm2_goldens(goldens, options.edm2)
    dit_goldens(goldens, options.dit, options.sit)
    goldens.write(HERE / "transformer_goldens.npz")


if __name__ == "__main__":
    main()
