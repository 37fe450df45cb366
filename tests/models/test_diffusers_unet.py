"""U-Nets built from config.json and weights compute what diffusers' do, and what does not fit is refused.

python run.py diffusers test_diffusers_unet.py      all; python run.py test_diffusers_unet.py: what needs no diffusers
"""

import inspect
import json
import math
import sys
import unittest
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "models"))

from contract import relative_error  # noqa: E402
from diffusers_config import DEFAULTS  # noqa: E402
from diffusers_model import Denoiser  # noqa: E402
from diffusers_unet import build_unet  # noqa: E402
from ldm import NoiseTable, TableTime  # noqa: E402

try:
    import diffusers
except ImportError:
    diffusers = None

GOLDENS = Path(__file__).resolve().parents[1] / "golden" / "models" / "diffusers_unets.npz"
TOLERANCE = 1e-5
torch.set_num_threads(1)

TINY = {"block_out_channels": [8, 16], "layers_per_block": 1, "norm_num_groups": 4}
PLAIN = TINY | {
    "_class_name": "UNet2DModel",
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
}
CROSS = TINY | {
    "_class_name": "UNet2DConditionModel",
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "cross_attention_dim": 12,
    "attention_head_dim": 2,
}
SDXL = {"addition_embed_type": "text_time", "addition_time_embed_dim": 6, "projection_class_embeddings_input_dim": 46}
THREE = {
    "block_out_channels": [8, 16, 24],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
}
ODD = [
    PLAIN,
    PLAIN | {"flip_sin_to_cos": False, "freq_shift": 1, "downsample_padding": 0, "norm_eps": 1e-6, "act_fn": "mish"},
    PLAIN | {"attention_head_dim": None, "mid_block_scale_factor": 1.4, "center_input_sample": True},
    PLAIN | {"resnet_time_scale_shift": "scale_shift", "downsample_type": "resnet", "upsample_type": "resnet"},
    PLAIN | {"resnet_time_scale_shift": "scale_shift", "attn_norm_num_groups": 8, "attention_head_dim": 5},
    PLAIN | {"time_embedding_type": "fourier", "add_attention": False, "act_fn": "swish", "time_embedding_dim": 20},
    PLAIN | {"num_class_embeds": 5, "out_channels": 6, "layers_per_block": 3},
    PLAIN | {"mid_block_type": None, "in_channels": 1, "block_out_channels": [9, 12], "norm_num_groups": 3},
    PLAIN
    | {"down_block_types": ["ResnetDownsampleBlock2D", "UNetResAttnDownBlock2D"]}
    | {"up_block_types": ["UNetResUpBlock2D", "ResnetUpsampleBlock2D"], "attention_head_dim": 4},
    CROSS,
    CROSS | THREE | {"attention_head_dim": [2, 4, 3], "use_linear_projection": True, "layers_per_block": [1, 2, 1]},
    CROSS | THREE | {"transformer_layers_per_block": [1, 2, 3], "upcast_attention": True, **SDXL},
    CROSS | THREE | {"cross_attention_dim": [12, 12, 12], "only_cross_attention": [True, False, True]},
    CROSS
    | THREE
    | {"transformer_layers_per_block": [1, [1, 2], 2], "reverse_transformer_layers_per_block": [3, [1, 2, 1], 2]}
    | {"layers_per_block": 2},
    CROSS | {"mid_block_type": None, "conv_in_kernel": 5, "conv_out_kernel": 1, "encoder_hid_dim": 12},
    CROSS | {"mid_block_type": "UNetMidBlock2D", "mid_block_scale_factor": 2.0, "act_fn": "gelu", "norm_eps": 1e-6},
    CROSS | {"time_embedding_type": "fourier", "only_cross_attention": True, "flip_sin_to_cos": False},
    CROSS | {"resnet_time_scale_shift": "scale_shift", "downsample_padding": 0, "center_input_sample": True},
    CROSS
    | {"down_block_types": ["AttnDownBlock2D", "ResnetDownsampleBlock2D"], "resnet_skip_time_act": True}
    | {"up_block_types": ["ResnetUpsampleBlock2D", "AttnUpBlock2D"], "resnet_out_scale_factor": 1.5}
    | {"attention_head_dim": [4, 8]},
]


def inputs(config):
    """x, time, condition, and how diffusers takes the condition."""
    torch.manual_seed(7)
    x = torch.randn(2, config.get("in_channels", 3 if config["_class_name"] == "UNet2DModel" else 4), 8, 12)
    time = torch.tensor([3.25, 871.5])
    if config["_class_name"] == "UNet2DModel":
        labels = torch.tensor([3, 1]) if config.get("num_class_embeds") else None
        return x, time, labels, {"class_labels": labels}
    text, more = torch.randn(2, 7, 12), {}
    condition = text
    if config.get("addition_embed_type"):
        pooled = torch.randn(2, 10)
        ids = torch.tensor([[64, 96, 0, 0, 64, 96]] * 2)
        more = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": ids}}
        condition = torch.cat([text, torch.nn.functional.pad(pooled, [0, 2])[:, None]], 1)
    return x, time, condition, {"encoder_hidden_states": text, **more}


def original(config):
    """diffusers' own network with perturbed weights, so that no zero or one of the initialization hides a fault."""
    torch.manual_seed(3)
    network = getattr(diffusers, config["_class_name"]).from_config(config).eval().requires_grad_(False)
    for weight in network.parameters():
        weight += 0.2 * torch.randn_like(weight)
    return network


def random_config(random):
    """Levels of any kinds, and any values of what is independent of them."""
    pick = lambda *values: values[random.randint(len(values))]
    count, cross = random.randint(1, 4), random.rand() < 0.6
    kinds = ["", "Attn", "Resnet"] + ["CrossAttn"] * 2 * cross
    name = lambda kind, way: f"Resnet{way}sampleBlock2D" if kind == "Resnet" else f"{kind}{way}Block2D"
    config = {
        "_class_name": "UNet2DConditionModel" if cross else "UNet2DModel",
        "block_out_channels": [int(8 * random.randint(1, 4)) for _ in range(count)],
        "down_block_types": [name(pick(*kinds), "Down") for _ in range(count)],
        "up_block_types": [name(pick(*kinds), "Up") for _ in range(count)],
        "layers_per_block": pick(1, 2),
        "norm_num_groups": pick(1, 2, 4, 8),
        "norm_eps": pick(1e-5, 1e-6),
        "flip_sin_to_cos": pick(True, False),
        "freq_shift": pick(0, 1),
        "downsample_padding": pick(0, 1),
        "resnet_time_scale_shift": pick("default", "scale_shift"),
        "mid_block_scale_factor": pick(1, 1.5),
        "act_fn": pick("silu", "relu", "mish"),
        "center_input_sample": pick(True, False),
        "attention_head_dim": pick(2, 4, 8),
    }
    if not cross:
        return config | {"downsample_type": pick("conv", "resnet"), "upsample_type": pick("conv", "resnet")}
    return config | {
        "cross_attention_dim": 12,
        "use_linear_projection": pick(True, False),
        "transformer_layers_per_block": [pick(1, 2) for _ in range(count)],
        "layers_per_block": [pick(1, 2) for _ in range(count)],
        "only_cross_attention": pick(True, False),
        "mid_block_type": pick("UNetMidBlock2DCrossAttn", "UNetMidBlock2D", None),
        **pick({}, SDXL),
    }


@unittest.skipIf(diffusers is None, "no diffusers")
class Originals(unittest.TestCase):
    def check(self, config):
        theirs = original(config)
        x, time, condition, theirs_take = inputs(config)
        ours = torch.jit.script(build_unet(config, theirs.state_dict()))
        with torch.no_grad():
            expected = theirs(x, time, **theirs_take).sample
            self.assertLess(relative_error(ours(x, time, condition), expected), TOLERANCE)

    def test_odd_configurations(self):
        for config in ODD:
            with self.subTest(json.dumps(config)):
                self.check(config)

    def test_random_configurations(self):
        for seed in range(20):
            config = random_config(np.random.RandomState(seed))
            with self.subTest(json.dumps(config)):
                self.check(config)

    def test_defaults_are_theirs(self):
        for name, defaults in DEFAULTS.items():
            theirs = getattr(diffusers, name).__init__
            for key, value in defaults.items():
                parameters = inspect.signature(theirs).parameters
                if key in parameters:
                    default = parameters[key].default
                    self.assertEqual(value, list(default) if isinstance(default, tuple) else default, f"{name} {key}")

    def test_old_names_of_attention(self):
        theirs = original(PLAIN)
        state, names = {}, {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
        for name, value in theirs.state_dict().items():
            for new, old in names.items():
                name = name.replace(f".{new}.", f".{old}.")
            state[name] = value
        self.assertTrue(any(".proj_attn." in name for name in state))
        x, time, _, _ = inputs(PLAIN)
        with torch.no_grad():
            expected = theirs(x, time).sample
            self.assertLess(relative_error(build_unet(PLAIN, state)(x, time, None), expected), TOLERANCE)

    def test_denoisers_are_their_schedulers_predictions(self):
        """D is what a scheduler makes of the same output at its own times, the last of zero signal included."""
        for prediction in ("epsilon", "v_prediction", "sample"):
            for zero in (False, True):
                settings = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False)
                scheduler = diffusers.DDIMScheduler(**settings, prediction_type=prediction, rescale_betas_zero_snr=zero)
                scheduler.set_timesteps(1000)
                table = scheduler.alphas_cumprod.double()
                table[-1] = max(table[-1], 2.0**-24)
                network = build_unet(PLAIN, original(PLAIN).state_dict())
                denoiser = torch.jit.script(Denoiser(network, TableTime(NoiseTable(table)), prediction))
                for step in (0, 1, 500, 998) + (() if zero and prediction == "epsilon" else (999,)):
                    seen = torch.randn(2, 3, 8, 8, generator=torch.manual_seed(step))
                    with torch.no_grad():
                        output = network(seen, torch.full([2], float(step)))
                        theirs = scheduler.step(output, step, seen).pred_original_sample
                        sigma = (1 / table[step] - 1).sqrt()
                        ours = denoiser(seen / float(table[step]) ** 0.5, sigma.repeat(2))
                    bound = 2e-3 if zero and step == 999 else TOLERANCE  # the original's last alpha is 0, here 2^-24
                    self.assertLess(relative_error(ours, theirs), bound, f"{prediction} {zero} {step}")


class Goldens(unittest.TestCase):
    def test_outputs_of_the_originals(self):
        """Where there is no diffusers: a network of each class, made by make_diffusers_goldens.py."""
        stored = np.load(GOLDENS)
        for name in ("plain", "cross"):
            config = json.loads(str(stored[f"{name}.config"]))
            shapes = json.loads(str(stored[f"{name}.shapes"]))
            weights = torch.from_numpy(stored[f"{name}.weights"]).float()
            pieces = weights.split([math.prod(shape) for shape in shapes.values()])
            state = {key: piece.reshape(shape) for (key, shape), piece in zip(shapes.items(), pieces)}
            x, time, condition, _ = inputs(config)
            with torch.no_grad():
                output = torch.jit.script(build_unet(config, state))(x, time, condition)
            self.assertLess(relative_error(output, torch.from_numpy(stored[f"{name}.output"])), TOLERANCE)

    def test_a_label_is_a_number_or_one_hot(self):
        config = PLAIN | {"num_class_embeds": 5}
        torch.manual_seed(1)
        network = random_network(config)
        x, time, labels, _ = inputs(config)
        with torch.no_grad():
            number = network(x, time, labels)
            one_hot = network(x, time, torch.nn.functional.one_hot(labels, 5).float())
            self.assertLess(relative_error(one_hot, number), TOLERANCE)
            self.assertGreater(relative_error(network(x, time, None), number), 1e-3)


def random_network(config):
    """A network with random weights of the shapes that it asks for."""
    from diffusers_config import Config
    from diffusers_unet import Unet

    state = {key: torch.randn(value.shape) * 0.3 for key, value in Unet(Config(config), 8).state_dict().items()}
    return build_unet(config, state)


class Refusals(unittest.TestCase):
    def test_values_that_are_not_supported_are_named(self):
        for base, key, value in (
            (PLAIN, "_class_name", "UNet1DModel"),
            (PLAIN, "_class_name", None),
            (PLAIN, "_class_name", ["UNet2DModel"]),
            (PLAIN, "down_block_types", ["SkipDownBlock2D", "AttnDownBlock2D"]),
            (PLAIN, "down_block_types", ["DownBlock2D"]),
            (PLAIN, "down_block_types", [None, 3]),
            (PLAIN, "up_block_types", ["CrossAttnUpBlock2D", "UpBlock2D"]),
            (PLAIN, "up_block_types", "UpBlock2D"),
            (PLAIN, "block_out_channels", []),
            (PLAIN, "block_out_channels", 8),
            (PLAIN, "block_out_channels", [8, -16]),
            (PLAIN, "block_out_channels", [8, "16"]),
            (PLAIN, "layers_per_block", 0),
            (PLAIN, "layers_per_block", [1, 1]),
            (PLAIN, "norm_num_groups", None),
            (PLAIN, "norm_num_groups", 5),
            (PLAIN, "attn_norm_num_groups", 5),
            (PLAIN, "norm_eps", "small"),
            (PLAIN, "mid_block_scale_factor", 0),
            (PLAIN, "attention_head_dim", 64),
            (PLAIN, "time_embedding_type", "learned"),
            (PLAIN, "time_embedding_dim", -1),
            (PLAIN, "freq_shift", "x"),
            (PLAIN, "act_fn", "geglu"),
            (PLAIN, "act_fn", {}),
            (PLAIN, "class_embed_type", "timestep"),
            (PLAIN, "resnet_time_scale_shift", "spatial"),
            (PLAIN, "mid_block_type", "UNetMidBlock2DCrossAttn"),
            (CROSS, "mid_block_type", "UNetMidBlock2DSimpleCrossAttn"),
            (CROSS, "down_block_types", ["SimpleCrossAttnDownBlock2D", "DownBlock2D"]),
            (CROSS, "dual_cross_attention", True),
            (CROSS, "num_class_embeds", 10),
            (CROSS, "num_attention_heads", 8),
            (CROSS, "cross_attention_dim", None),
            (CROSS, "cross_attention_dim", [12]),
            (CROSS, "transformer_layers_per_block", [1, [1, 2]]),
            (CROSS, "transformer_layers_per_block", [1]),
            (CROSS, "only_cross_attention", "yes"),
            (CROSS, "encoder_hid_dim_type", "image_proj"),
            (CROSS, "addition_embed_type", "image"),
            (CROSS, "addition_embed_type", "text_time"),
            (CROSS, "attention_type", "gated"),
            (CROSS, "time_cond_proj_dim", 256),
            (CROSS | SDXL, "projection_class_embeddings_input_dim", 36),
        ):
            with self.subTest(f"{key} {value}"):
                with self.assertRaises(ValueError) as caught:
                    build_unet(base | {key: value}, {})
                message = str(caught.exception)
                missing = "projection_class_embeddings_input_dim" if value == "text_time" else key
                self.assertIn(missing, message)
                self.assertNotIn("\n", message)

    def test_weights_that_do_not_fit_are_named(self):
        state = dict(random_network(PLAIN).state_dict())
        for change, message in (
            ({"conv_in.weight": None}, "lacks conv_in.weight"),
            ({"mid_block.resnets.2.conv1.weight": torch.zeros(1)}, "surplus mid_block.resnets.2.conv1.weight"),
            ({"conv_out.bias": torch.zeros(4)}, r"conv_out.bias is \[4\] instead of \[3\]"),
            ({"conv_out.bias": torch.zeros([])}, r"conv_out.bias is \[\] instead of \[3\]"),
            ({"conv_out.bias": "x"}, "conv_out.bias of the checkpoint is not a tensor"),
        ):
            changed = {key: value for key, value in (state | change).items() if value is not None}
            with self.subTest(message), self.assertRaisesRegex(ValueError, message):
                build_unet(PLAIN, changed)


if __name__ == "__main__":
    unittest.main(warnings="ignore")
