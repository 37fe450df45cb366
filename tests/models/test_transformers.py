"""EDM2, DiT and SiT against the original programs (goldens: tests/golden/models/make_transformer_goldens.py)."""

import argparse
import json
import re
import shutil
import unittest
from pathlib import Path

import torch

import latent_support
from pixel_support import Golden, ModelTest
from pixel_support import inputs as states

# isort: split
import contract
import dit
import edm2
import sit
from export import Sizes
from safe_load import make_record
from state_dict import StateDict


def golden_of(name):
    return Golden(name, "transformer_goldens")


def edm2_model(*names, decoder=None):
    pickles = [(Path(f"{name}.pkl"), golden_of(f"edm2_{name}").pickled()) for name in names]
    model, facts = edm2.read_content("edm2", pickles, decoder, None)
    return model.eval().requires_grad_(False), facts


class TransformerTest(ModelTest):
    def decoder(self, **changes):
        """Stable Diffusion's autoencoder, small."""
        state = StateDict(latent_support.Golden("sd").state).under("first_stage_model").entries
        return self.saved("vae", state | changes)

    def one_hot(self, golden):
        labels = golden.recipe["labels"]
        return torch.nn.functional.one_hot(golden.labels, labels).float() if labels else None


class Edm2(TransformerTest):
    def test_denoised_images_are_the_originals(self):
        for name in ("pixel", "guide", "odd"):
            golden = golden_of(f"edm2_{name}")
            model, _ = edm2_model(name)
            for version in (model, torch.jit.script(model)):
                with self.subTest(name):
                    self.assert_denoises_as(golden, version, self.one_hot(golden))
                    if golden.recipe["labels"]:
                        self.assert_denoises_as(golden, version, None, "unlabelled")

    def test_a_latent_model_decodes_as_the_original_s_encoder(self):
        golden, decoder = golden_of("edm2_latent"), self.decoder()
        model, facts = edm2_model("latent", decoder=decoder)
        self.assertEqual(facts["latent"], {"image_resolution": 64, "image_channels": 3})
        self.assert_denoises_as(golden, model, self.one_hot(golden))
        mean, deviation = torch.tensor([5.81, 3.25, 0.12, -2.15]), torch.tensor([4.17, 4.62, 3.71, 3.28])
        z = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(1))
        raw = z * (deviation / 0.5)[:, None, None] + mean[:, None, None]
        with torch.no_grad():
            self.assert_close(model.decode(z), 2 * model.first_stage(raw) - 1)
        contract.write_model(model, facts, self.folder / "denoiser.ts")

    def test_guidance_by_a_second_network_draws_the_original_s_images(self):
        model, facts = edm2_model("pixel", "guide")
        self.assertTrue(facts["guide"])
        path = contract.write_model(model, facts, self.folder / "denoiser.ts")
        model, golden = torch.jit.load(str(path)), golden_of("edm2_guide")
        x, labels = states(3, 16, 5)[0] / 60, torch.nn.functional.one_hot(states(3, 16, 5)[2], 5).float()

        def slope(x, sigma):
            level = sigma.expand(len(x))
            weak, strong = model.guide(x, level, labels), model(x, level, labels)
            return (x - weak - 1.7 * (strong - weak)) / sigma

        step = torch.arange(5) / 4
        sigmas = torch.cat([(80 ** (1 / 7) + step * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7, torch.zeros(1)])
        x = x * sigmas[0]
        with torch.no_grad():
            for sigma, following in zip(sigmas, sigmas[1:]):
                first = slope(x, sigma)
                euler = x + (following - sigma) * first
                x = euler if following == 0 else x + (following - sigma) * (first + slope(euler, following)) / 2
        self.assert_close(x, golden.arrays["trajectory"], 1e-4)

    def test_facts_come_from_the_pickle(self):
        facts = edm2_model("pixel")[1]
        wanted = dict(label_dim=5, resolution=16, condition="label", precision="float16", sigma_max=80.0, latent=None)
        self.assertEqual(facts | wanted, facts)
        self.assertEqual(edm2_model("odd")[1]["precision"], "bfloat16")

    def test_the_files_are_told_apart_by_content(self):
        files = []
        for name in ("latent", "guide"):
            files.append(self.folder / f"{name}.pkl")
            files[-1].write_bytes(golden_of(f"edm2_{name}").pickle_bytes())
        decoder = self.decoder()
        edm2.read_model("edm2", [files[0], decoder], Sizes())
        for given, pattern in (
            ([decoder], "expected EDM2's pickled Precond, found dict"),
            ([files[0]], "give Stable Diffusion's autoencoder as well"),
            ([files[1], decoder], "has no use for a decoder"),
            ([files[0], decoder, files[1]], "the guide is of 3x16x"),
            ([files[1]] * 3, "a third network"),
        ):
            with self.subTest(pattern), self.assertRaisesRegex(ValueError, pattern):
                edm2.read_model("edm2", given, Sizes())

    def test_missing_surplus_and_misshapen_weights_are_named(self):
        for change, pattern in (
            (lambda unet: unet["_parameters"].pop("out_gain"), "lacks out_gain"),
            (lambda unet: unet["_parameters"].update(out_gain=torch.ones(2)), r"out_gain .* is \[2\] instead of one"),
            (lambda unet: unet["_parameters"].update(more=torch.ones(2, 2)), "has surplus more"),
            (lambda unet: unet["_parameters"].update(more=torch.ones(2)), r"more of the checkpoint is \[2\]"),
            (lambda unet: unet["_modules"]["emb_fourier"].state["_buffers"].clear(), "emb_fourier.freqs"),
            (lambda unet: unet["_modules"]["enc"].state["_modules"].popitem(), "lacks enc.8x8_block0"),
            (
                lambda unet: unet["_modules"]["emb_noise"].state["_parameters"].update(weight=torch.ones(3, 4)),
                r"emb_noise.weight is \[3, 4\] instead of",
            ),
        ):
            content = golden_of("edm2_pixel").pickled()
            change(content["ema"].state["_modules"]["unet"].state)
            with self.subTest(pattern), self.assertRaisesRegex(ValueError, "^a.pkl: .*" + pattern):
                edm2.read_content("edm2", [(Path("a.pkl"), content)], None, None)
        content = golden_of("edm2_pixel").pickled() | {"encoder": make_record("OtherEncoder")}
        with self.assertRaisesRegex(ValueError, "encoded by OtherEncoder"):
            edm2.read_content("edm2", [(Path("a.pkl"), content)], None, None)


class Transformers(TransformerTest):
    def model(self, name, family=dit, sizes=Sizes(num_heads=6), **changes):
        weights = golden_of(name).weights()
        weights = {key: value for key, value in (weights | changes).items() if value is not None}
        files = [self.saved(name, weights), self.decoder()]
        model, facts = family.read_model(name, files, sizes)
        return model.eval().requires_grad_(False), facts

    def test_noise_is_the_original_s(self):
        """At the levels of its steps, where x / sqrt(1 + sigma^2) is what the original was given."""
        for name in ("dit", "dit_plain"):
            golden = golden_of(name)
            model, facts = self.model(name)
            table = torch.tensor(facts["noise"]["alphas_cumprod"], dtype=torch.float64)
            sigma = ((1 - table) / table).sqrt()[golden.arrays["times"].long()]
            x = golden.x.double() * (sigma**2 + 1).sqrt()[:, None, None, None]
            for version in (model.double(), torch.jit.script(model)):
                for condition, key in ((self.one_hot(golden), "raw"), (None, "unlabelled")):
                    with self.subTest(name, key=key):
                        noise = (x - version(x, sigma, condition)) / sigma[:, None, None, None]
                        self.assert_close(noise, golden.arrays[key])
            self.assertEqual(facts["guided_channels"], 3)

    def test_velocity_and_its_trajectory_are_the_original_s(self):
        golden = golden_of("sit")
        model, facts = self.model("sit", sit)
        self.assertEqual(facts["noise"], {"kind": "flow", "shift": 1})
        model = torch.jit.load(str(contract.write_model(model, facts, self.folder / "denoiser.ts")))
        s = 1 - golden.arrays["times"]
        self.assert_close(-model(golden.x, s, self.one_hot(golden)), golden.arrays["raw"])
        self.assert_close(-model(golden.x, s, None), golden.arrays["unlabelled"])
        x, times = golden.x, torch.linspace(1, 0, 5)
        for s, following in zip(times, times[1:]):
            level = s.expand(len(x))
            with_label, without = model(x, level, self.one_hot(golden)), model(x, level, None)
            velocity = torch.cat([(without + 2.5 * (with_label - without))[:, :3], with_label[:, 3:]], 1)
            x = x + (following - s) * velocity
        self.assert_close(x, golden.arrays["trajectory"], 1e-4)

    def test_latents_are_scaled_before_decoding(self):
        for family in (dit, sit):
            model, facts = self.model("dit", family)
            z = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1))
            self.assert_close(model.decode(z), model.first_stage(z / 0.18215))
            self.assertEqual(facts["latent"], {"image_resolution": 64, "image_channels": 3})

    def test_the_autoencoder_may_be_what_diffusers_saved(self):
        renames = (
            (r"mid\.block_(\d)", lambda found: f"mid_block.resnets.{int(found[1]) - 1}"),
            (r"mid\.attn_1", "mid_block.attentions.0"),
            (r"(?<=attentions\.0\.)(q|k|v)\.", r"to_\1."),
            (r"(?<=attentions\.0\.)proj_out", "to_out.0"),
            (r"(?<=attentions\.0\.)norm", "group_norm"),
            (r"nin_shortcut", "conv_shortcut"),
            (r"norm_out", "conv_norm_out"),
            (r"\.upsample\.", ".upsamplers.0."),
            (r"up\.(\d)\.block", lambda found: f"up_blocks.{levels - 1 - int(found[1])}.resnets"),
            (r"up\.(\d)\.", lambda found: f"up_blocks.{levels - 1 - int(found[1])}."),
        )
        state = StateDict(latent_support.Golden("sd").state).under("first_stage_model")
        levels, renamed = state.under("decoder.up").count(), {}
        for name, value in state.entries.items():
            for pattern, new in renames if name.startswith("decoder.") else ():
                name = re.sub(pattern, new, name)
            renamed[name] = value
        folder = self.folder / "sd-vae"
        folder.mkdir()
        file = self.saved("sd-vae/diffusion_pytorch_model", renamed).rename(folder / "diffusion_pytorch_model.bin")
        alone = Path(shutil.copy(file, self.folder))
        blocks = ["UpDecoderBlock2D"] * levels
        (folder / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKL", "up_block_types": blocks}))
        weights, z = self.saved("dit", golden_of("dit").weights()), torch.randn(1, 4, 16, 16)
        wanted = self.model("dit")[0].decode(z)
        for files in ([weights, folder], [folder, weights], [weights, file], [weights, alone]):
            model, facts = dit.read_model("dit", files, Sizes(num_heads=6))
            self.assert_close(model.eval().decode(z), wanted, 0)
            self.assertEqual(set(facts["source"]), {"dit.pt", "diffusion_pytorch_model.bin"})
        del renamed["decoder.conv_out.bias"]
        torch.save(renamed, file)
        with self.assertRaisesRegex(ValueError, "sd-vae: .*lacks "):
            dit.read_model("dit", [weights, folder], Sizes(num_heads=6))

    def test_training_checkpoints_give_their_averages_and_say_what_they_were_trained_for(self):
        golden, decoder = golden_of("sit"), self.decoder()
        whole = {"model": {}, "ema": golden.weights(), "opt": {}}
        self.assertEqual(
            sit.read_model("sit", [self.saved("a", whole), decoder], Sizes(num_heads=6))[1]["label_dim"], 5
        )
        arguments = argparse.Namespace(path_type="GVP", prediction="velocity")
        file = self.saved("b", whole | {"args": arguments})
        with self.assertRaisesRegex(ValueError, "trained with path_type GVP; only Linear"):
            sit.read_model("sit", [file, decoder], Sizes(num_heads=6))

    def test_hostile_checkpoints_are_refused_by_name(self):
        for changes, pattern in (
            ({"blocks.1.attn.qkv.bias": None}, "lacks blocks.1.attn.qkv.bias"),
            ({"more": torch.ones(1)}, "has surplus more"),
            ({"blocks.0.mlp.fc1.bias": torch.ones(3)}, "blocks.0.mlp.fc1.bias is"),
            ({"x_embedder.proj.weight": torch.ones(48, 4, 4, 4)}, "makes 32 numbers for each patch of 4x4"),
            ({"x_embedder.proj.weight": torch.ones(48, 4, 2, 4)}, "patches of 2x4"),
            ({"x_embedder.proj.weight": torch.ones(48, 4)}, "expected 4 dimensions"),
            ({"pos_embed": torch.ones(1, 63, 48)}, "63 positions"),
            ({"pos_embed": None}, "lacks pos_embed"),
            ({"y_embedder.embedding_table.weight": torch.ones(1, 48)}, "0 labels"),
        ):
            with self.subTest(pattern), self.assertRaisesRegex(ValueError, pattern):
                self.model("dit", **changes)
        for sizes, pattern in (
            (Sizes(), "how many heads share their width 48: give --num_heads"),
            (Sizes(num_heads=5), "5 heads do not divide"),
            (Sizes(64, num_heads=6), "--resolution 64 does not"),
        ):
            with self.subTest(pattern), self.assertRaisesRegex(ValueError, pattern):
                self.model("dit", sizes=sizes)


if __name__ == "__main__":
    unittest.main(warnings="ignore")
