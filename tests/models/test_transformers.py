"""EDM2, DiT and SiT against the original programs (goldens: tests/golden/models/make_transformer_goldens.py)."""

import argparse
import pickle
import unittest
from pathlib import Path

import torch

import latent_support
from pixel_support import Golden, ModelTest, Pickled, persistent, write_pickle
from pixel_support import inputs as states

# isort: split
import contract
import dit
import edm2
import sit
from export import Sizes
from safe_load import make_record
from state_dict import StateDict, state_of


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


class Hostile(TransformerTest):
    """Through the command, with files: one line that names the weight and the file, and nothing left behind."""

    WEIGHTS = (  # what becomes of a weight -> what is said of it
        (lambda _: None, "lacks "),
        (lambda w: w[None, None], "is "),
        (lambda w: torch.cat([w, w]), "is "),
        (lambda w: w.long(), "is of int64, not floating-point"),
        (lambda w: w.to(torch.complex64), "is of complex64, not floating-point"),
        (lambda w: torch.full_like(w, torch.nan), "values that are not finite"),
        (lambda w: torch.cat([w[:-1], w[-1:] / 0]), "of [0-9]+ values that are not finite"),
    )

    def edm2_file(self, name, golden="pixel", **changes):
        """A pickle of EDM2 with these weights changed."""
        record = golden_of(f"edm2_{golden}").pickled()["ema"].state
        unet = record["_modules"]["unet"]
        weights = {key: value for key, value in (state_of(unet) | changes).items() if value is not None}
        inner = persistent("UNet", {"_init_kwargs": unet.state["_init_kwargs"], "_parameters": weights})
        outer = persistent("Precond", record | {"_modules": {"unet": inner}})
        return write_pickle({"ema": outer}, self.folder / f"{name}.pkl")

    def assert_weights_are_checked(self, weights, saved, *names):
        """`saved` writes a file with changed weights, and exports; `names` are weights of this state dict."""
        for name in names:
            for change, said in self.WEIGHTS:
                file, line = saved({name: change(weights[name])})
                with self.subTest(name, said=said):
                    self.assertRegex(
                        line, f"{file.name}: .*" + (said + name if said == "lacks " else f"{name} .*{said}")
                    )
        file, line = saved({"more.weight": torch.ones(2, 2)})
        self.assertRegex(line, f"{file.name}: .*surplus more.weight")

    def test_weights_of_transformers(self):
        weights, decoder = golden_of("dit").weights(), self.decoder()
        for family in ("dit", "sit"):

            def saved(changes, family=family):
                kept = {key: value for key, value in (weights | changes).items() if value is not None}
                file = self.saved(family, kept)
                return file, self.refused("own", "--source", file, decoder, "--family", family, "--num_heads", 6)

            names = "blocks.1.attn.qkv.weight", "t_embedder.mlp.2.weight", "final_layer.linear.bias"
            self.assert_weights_are_checked(weights, saved, *names)

    def test_weights_of_edm2(self):
        weights = state_of(golden_of("edm2_pixel").pickled()["ema"].state["_modules"]["unet"])

        def saved(changes):
            file = self.edm2_file("net", **changes)
            return file, self.refused("own", "--source", file)

        self.assert_weights_are_checked(weights, saved, "enc.16x16_conv.weight", "emb_noise.weight", "out_conv.weight")
        for name in ("out_gain", "emb_fourier.freqs"):
            self.assertRegex(saved({name: weights[name] * torch.nan})[1], f"net.pkl: {name} .* not finite")

    def test_weights_of_the_decoder(self):
        weights = StateDict(latent_support.Golden("sd").state).under("first_stage_model").entries
        model = self.saved("dit", golden_of("dit").weights())

        def saved(changes):
            kept = {key: value for key, value in (weights | changes).items() if value is not None}
            file = self.saved("vae", kept)
            return file, self.refused("own", "--source", model, file, "--family", "dit", "--num_heads", 6)

        self.assert_weights_are_checked(weights, saved, "decoder.mid.block_1.conv1.weight", "post_quant_conv.bias")

    def test_files_that_are_something_else(self):
        golden, decoder = golden_of("dit"), self.decoder()
        dit_file, edm2_file = self.saved("dit", golden.weights()), self.edm2_file("net")
        cut, page, wild = (self.folder / name for name in ("cut", "page", "wild"))
        page.write_text("<!DOCTYPE html><html></html>")
        wild.write_bytes(pickle.dumps({"ema": Pickled("os", "getcwd"), "x_embedder.proj.weight": torch.ones(1)}))
        edm1 = write_pickle({"ema": persistent("EDMPrecond", {})}, self.folder / "edm1.pkl")
        for family, good, more in (("dit", dit_file, [decoder]), ("sit", dit_file, [decoder]), ("edm2", edm2_file, [])):
            cut.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
            other = edm2_file if family != "edm2" else dit_file
            for file, said in (
                (cut, "damaged or not a checkpoint"),
                (page, "a web page"),
                (wild, "calls .*getcwd"),
                (other, "expected "),
                (edm1, "expected "),
                (decoder, "x_embedder|Precond"),
            ):
                with self.subTest(family, file=file.name):
                    line = self.refused("own", "--source", file, *more, "--family", family, "--num_heads", 6)
                    self.assertRegex(line, f"{file.name}: .*{said}")
        for file, said in ((page, "a web page"), (wild, "calls"), (edm2_file, "expected a state dict")):
            with self.subTest("decoder", file=file.name):
                line = self.refused("own", "--source", dit_file, file, "--family", "dit", "--num_heads", 6)
                self.assertRegex(line, f"{file.name}: .*{said}")


if __name__ == "__main__":
    unittest.main(warnings="ignore")
