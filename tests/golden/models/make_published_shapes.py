"""Writes published_shapes.json.xz: names and shapes of the weights of the published OpenAI U-Nets, from the original code.

    python make_published_shapes.py --epd DIR

with a checkout of BeierZhu/EPD 94c00d0, which holds the settings of Consistency Models and guided diffusion. flash_attn,
which has no weights, is replaced by an empty stand-in. (The latent models' shapes are in latent_goldens.npz.)
"""

import argparse
import json
import lzma
import sys
import types
from pathlib import Path

import torch

parser = argparse.ArgumentParser()
parser.add_argument("--epd", required=True)
sys.path.insert(0, parser.parse_args().epd)
for name in ("flash_attn", "flash_attn.flash_attention"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["flash_attn.flash_attention"].FlashAttention = lambda **_: torch.nn.Identity()
from models.cm import cm_model_loader as cm  # noqa: E402
from models.guided_diffusion import cg_model_loader as guided  # noqa: E402

with torch.device("meta"):
    networks = {
        "lsun_bedroom": cm.create_model(**cm.lsun_setting()),
        "imagenet256": guided.create_model(**guided.imagenet256_setting()),
        "imagenet256_classifier": guided.create_classifier(**guided.classifier_setting()),
    }
shapes = {
    name: {key: list(value.shape) for key, value in network.state_dict().items()} for name, network in networks.items()
}
content = json.dumps(shapes).encode()
Path(__file__).with_name("published_shapes.json.xz").write_bytes(lzma.compress(content, preset=9))
