"""Latent diffusion models against the original programs (goldens: tests/golden/models/make_latent_goldens.py)."""

import functools
import json
import sys
import tempfile
import unittest
import warnings
from pathlib import Path

import torch

from latent_support import ROOT, Golden, is_weight, recipe, synthetic_weights

sys.path.insert(0, str(ROOT / "models"))
import contract  # noqa: E402
from export import Sizes  # noqa: E402
from ldm import LatentCheckpoint, LatentDenoiser, NoiseTable, latent_facts, linear_noise_table, read_ldm  # noqa: E402
from ldm_unet import CrossAttention  # noqa: E402
from sd import read_model, read_sd  # noqa: E402
from unet_reader import Heads  # noqa: E402

warnings.filterwarnings("ignore", category=DeprecationWarning)


def read(golden: Golden, **changes) -> LatentDenoiser:
    options = golden.options | changes
    if "tokens" in golden.arrays:
        model = read_sd(golden.state, Heads(options["num_heads"]), options["head_channels"])
    else:
        model = read_ldm(golden.state, None, Heads(**options))
    return model.eval().requires_grad_(False)


def without(state: dict, *names: str) -> dict:
    return {name: value for name, value in state.items() if name not in names}


@functools.cache
def whole_model(name: str) -> tuple[Golden, LatentDenoiser, torch.jit.ScriptModule]:
    golden = Golden(name)
    model = read(golden)
    return golden, model, torch.jit.script(model)


class LatentModels(unittest.TestCase):
    def assert_close(self, actual, expected, tolerance=1e-5):
        self.assertLessEqual(contract.relative_error(actual, expected), tolerance)

    def each_model(self):
        for name in ("ldm", "odd", "sd"):
            with self.subTest(name):
                golden, model, scripted = whole_model(name)
                for layout in (torch.contiguous_format, torch.channels_last):
                    yield golden, model.to(memory_format=layout)
                    yield golden, scripted.to(memory_format=layout)

    def test_denoised_latents_are_the_originals_at_every_noise_level(self):
        for golden, model in self.each_model():
            arrays = golden.arrays
            denoised = model(arrays["x"], arrays["sigma"], arrays.get("text"))
            for one, original in zip(denoised, arrays["denoised"]):
                self.assert_close(one, original)
            # Near sigma_min D is almost x: the predicted noise is what the network is about.
            sigma = arrays["sigma"][:, None, None, None]
            self.assert_close((arrays["x"] - denoised) / sigma, (arrays["x"] - arrays["denoised"]) / sigma)

    def test_decoded_images_and_their_gradients_are_the_originals(self):
        for golden, model in self.each_model():
            latent = golden.arrays["latent"].clone().requires_grad_(True)
            image = model.decode(latent)
            self.assert_close(image, golden.arrays["image"])
            image.square().sum().backward()
            self.assert_close(latent.grad, golden.arrays["latent_gradient"])

    def test_text_states_are_those_of_transformers(self):
        golden, *models = whole_model("sd")
        for model in models:
            self.assert_close(model.encode_text(golden.arrays["tokens"]), golden.arrays["text"])

    def test_sigma_range_is_the_originals_to_float32(self):
        for golden, _ in self.each_model():
            for u, original in zip((1e-3, 1.0), golden.arrays["sigma_range"].tolist()):
                self.assertAlmostEqual(NoiseTable(golden.arrays["alphas_cumprod"]).sigma(u) / original, 1, delta=3e-5)

    def test_the_bedroom_model_has_the_published_sigma_range(self):
        table = NoiseTable(linear_noise_table(0.0015, 0.0195).float())  # as checkpoints hold it
        self.assertAlmostEqual(table.sigma(1e-3) / 0.03875904902815819, 1, delta=1e-6)
        self.assertAlmostEqual(table.sigma(1.0) / 83.82247924804688, 1, delta=1e-6)

    def test_the_noise_table_inverts_itself_inside_and_beyond_its_ends(self):
        table = NoiseTable(linear_noise_table(0.0015, 0.0195))
        for u in (5e-4, 1e-3, 0.0123, 0.5, 0.99951, 1.0, 1.05):
            self.assertAlmostEqual(float(table(torch.tensor([table.sigma(u)], dtype=torch.float64))), u, delta=1e-9)

    def test_a_noise_table_rounded_to_half_precision_is_the_linear_one(self):
        for half in (torch.float16, torch.bfloat16):
            table = linear_noise_table(0.0015, 0.0195)
            checkpoint = LatentCheckpoint({"alphas_cumprod": table.to(half)})
            self.assertTrue(torch.equal(checkpoint.noise_table(0.0015, 0.0195), table))

    def test_one_noise_level_an_image_is_not_the_batchs(self):
        golden = Golden("ldm")
        model, x, sigma = read(golden), golden.arrays["x"], golden.arrays["sigma"]
        one_by_one = torch.cat([model(x[i : i + 1], sigma[i : i + 1]) for i in range(3)])
        self.assert_close(model(x, sigma), one_by_one, 1e-6)

    def test_gradients_reach_x_and_sigma(self):
        golden = Golden("ldm")
        model = torch.jit.script(read(golden).double())
        x, weight = golden.arrays["x"][1:2].double(), torch.randn(3, 8, 8, dtype=torch.float64)
        value = lambda x, sigma: (model(x, sigma) * weight).sum()
        sigma = golden.arrays["sigma"][1:2].double().requires_grad_(True)
        for tensor, step in ((x.requires_grad_(True), torch.randn_like(x)), (sigma, torch.ones_like(sigma))):
            (gradient,) = torch.autograd.grad(value(x, sigma), tensor)
            shifted = [value(x + h * step, sigma) if tensor is x else value(x, sigma + h * step) for h in (1e-5, -1e-5)]
            self.assertAlmostEqual(float((gradient * step).sum() / ((shifted[0] - shifted[1]) / 2e-5)), 1, delta=1e-5)

    def test_a_network_in_bfloat16_stays_near_and_returns_float32(self):
        golden = Golden("sd")
        model = torch.jit.script(read(golden))
        model.network.to(torch.bfloat16)
        sigma = golden.arrays["sigma"][:2]
        denoised = model(golden.arrays["x"][:2], sigma, golden.arrays["text"][:2])
        self.assertEqual(denoised.dtype, torch.float32)
        self.assert_close(denoised, golden.arrays["denoised"][:2], 0.05)

    def test_the_averaged_weights_are_those_that_count(self):
        golden = Golden("ldm")
        expected = read(golden)(golden.arrays["x"], golden.arrays["sigma"])
        name = "model.diffusion_model.input_blocks.0.0.weight"
        golden.state[name] = golden.state[name] + 1
        self.assert_close(read(golden)(golden.arrays["x"], golden.arrays["sigma"]), expected, 0)
        golden.state["model_ema.diffusion_modelinput_blocks00weight"] += 1
        self.assertGreater(
            contract.relative_error(read(golden)(golden.arrays["x"], golden.arrays["sigma"]), expected), 1e-3
        )

    def test_the_published_architectures_load_every_weight(self):
        millions = {  # parameters of the U-Net, the way from latent to image, the text encoder
            "lsun_bedroom_ldm": (274.1, 33.0, 0),
            "ms_coco": (859.5, 49.5, 123.1),
        }
        for name, expected in millions.items():
            state = {key: torch.empty(shape, device="meta") for key, shape in recipe(name)["shapes"].items()}
            model = read_sd(state) if name == "ms_coco" else read_ldm(state)
            parts = (model.network, model.first_stage, getattr(model, "text_encoder", torch.nn.Identity()))
            for part, count in zip(parts, expected):
                with self.subTest(f"{name}: {type(part).__name__}"):
                    self.assertAlmostEqual(sum(value.numel() for value in part.parameters()) / 1e6, count, delta=0.1)

    def test_training_only_entries_are_skipped(self):
        golden = Golden("sd")
        golden.state["first_stage_model.loss.discriminator.main.0.weight"] = torch.zeros(1)
        golden.state["model_ema.diffusion_modeloutbias"] = torch.zeros(1)
        golden.state["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(77)[None]
        self.assert_close(read(golden).encode_text(golden.arrays["tokens"]), golden.arrays["text"])

    def test_a_missing_weight_is_an_error_that_names_it(self):
        for name in ("ldm", "sd"):
            golden = Golden(name)
            whole = golden.state
            used = [
                key
                for key, value in whole.items()
                if is_weight(key, value) and ".encoder." not in key.removeprefix("cond_stage_model")
            ]
            used = [key for key in used if not key.startswith(("first_stage_model.quant_conv", "model_ema."))]
            for missing in used[::17] + [key for key in used if key.endswith(("in_layers.2.weight", "conv_in.weight"))]:
                golden.state = without(whole, missing)
                with self.subTest(missing), self.assertRaises(ValueError) as caught:
                    read(golden)
                twin = missing.removeprefix("model.").replace(".", "")
                self.assertTrue(
                    missing in str(caught.exception) or twin in str(caught.exception), str(caught.exception)
                )

    def test_a_surplus_weight_is_an_error_that_names_it(self):
        golden = Golden("sd")
        whole = golden.state
        for surplus in (
            "extra",
            "model.diffusion_model.input_blocks.1.0.extra.weight",
            "model.diffusion_model.input_blocks.9.0.op.weight",
            "first_stage_model.decoder.up.0.extra.weight",
            "cond_stage_model.transformer.text_model.extra",
            "cond_stage_model.extra",
        ):
            golden.state = whole | {surplus: torch.zeros(32)}
            with self.subTest(surplus), self.assertRaisesRegex(ValueError, surplus.replace("9.0.op.weight", "9")):
                read(golden)

    def test_a_weight_of_another_shape_is_an_error_that_names_it(self):
        golden = Golden("ldm")
        golden.state["first_stage_model.decoder.norm_out.weight"] = torch.ones(7)
        with self.assertRaisesRegex(ValueError, r"decoder.norm_out.weight is \[7\] instead of \[32\]"):
            read(golden)

    def test_heads_that_do_not_divide_the_channels_are_an_error_that_names_the_option(self):
        with self.assertRaisesRegex(ValueError, "--head_channels 48"):
            read(Golden("ldm"), head_channels=48)
        with self.assertRaisesRegex(ValueError, "--head_channels 64"):
            read(Golden("sd"), head_channels=64)

    def test_the_first_stage_may_come_from_its_own_checkpoint(self):
        golden = Golden("ldm")
        prefix = "first_stage_model."
        first_stage = {
            name.removeprefix(prefix): value for name, value in golden.state.items() if name.startswith(prefix)
        }
        diffusion = {name: value for name, value in golden.state.items() if not name.startswith(prefix)}
        model = read_ldm(diffusion, first_stage, Heads(**golden.options))
        self.assert_close(model.decode(golden.arrays["latent"]), golden.arrays["image"])
        with self.assertRaisesRegex(ValueError, "autoencoder's checkpoint"):
            read_ldm(diffusion)

    def test_doubling_without_weights_repeats_each_pixel(self):
        golden = Golden("ldm")
        names = [name for name in golden.state if ".upsample.conv." in name]
        for name in names:  # a convolution that changes nothing
            weight = golden.state[name]
            golden.state[name] = torch.zeros_like(weight)
            if name.endswith("weight"):
                golden.state[name][:, :, 1, 1] = torch.eye(len(weight))
        expected = read(golden).decode(golden.arrays["latent"])
        golden.state = without(golden.state, *names)
        self.assert_close(read(golden).decode(golden.arrays["latent"]), expected)

    def test_attention_in_the_new_order_takes_the_same_channels_elsewhere(self):
        golden = Golden("ldm")
        expected = read(golden)(golden.arrays["x"], golden.arrays["sigma"])
        for name in [name for name in golden.state if ".qkv." in name or "qkvweight" in name or "qkvbias" in name]:
            old = golden.state[name]
            golden.state[name] = old.reshape(-1, 3, 16, *old.shape[1:]).transpose(0, 1).reshape(old.shape)
        self.assert_close(read(golden, new_order=True)(golden.arrays["x"], golden.arrays["sigma"]), expected)

    def test_heads_of_the_unet_and_of_the_text_encoder_have_options_of_their_own(self):
        golden = Golden("sd")
        widths = {value.shape[0] for name, value in golden.state.items() if "attn1.to_q" in name}
        with tempfile.TemporaryDirectory() as folder:
            torch.save(golden.state, Path(folder) / "sd.ckpt")
            exported = lambda *sizes: read_model("ms_coco", [Path(folder) / "sd.ckpt"], Sizes(*sizes))[0]  # noqa: E731
            model = exported(8, 16, None, None, None, 8)
            self.assert_close(model.encode_text(golden.arrays["tokens"]), golden.arrays["text"])
            heads = {layer.num_heads for layer in model.network.modules() if isinstance(layer, CrossAttention)}
            self.assertEqual(heads, {width // 16 for width in widths})

    def test_another_text_encoder_is_refused_in_one_line(self):
        golden = Golden("sd")
        text = [name for name in golden.state if name.startswith("cond_stage_model.")]
        golden.state = without(golden.state, *text) | {
            "cond_stage_model.transformer.token_emb.weight": torch.zeros(77, 32)
        }
        with self.assertRaisesRegex(ValueError, "no text encoder of Stable Diffusion 1, 2 or XL "):
            read(golden)

    def test_facts_say_the_latents_and_the_images_sizes(self):
        facts = latent_facts(read(Golden("odd")), "ffhq_ldm", 8)
        self.assertEqual((facts["resolution"], facts["channels"]), (8, 4))
        self.assertEqual(facts["latent"], {"image_resolution": 16, "image_channels": 3})
        self.assertEqual(len(facts["noise"]["alphas_cumprod"]), 300)
        self.assertEqual(json.loads(json.dumps(facts)), facts)

    def test_synthetic_weights_do_not_depend_on_the_order_of_names(self):
        shapes = {"a.weight": [3, 4], "b.bias": [2]}
        forwards, backwards = synthetic_weights(shapes, 3), synthetic_weights(dict(reversed(shapes.items())), 3)
        self.assertTrue(all(torch.equal(forwards[name], backwards[name]) for name in shapes))


if __name__ == "__main__":
    unittest.main()
