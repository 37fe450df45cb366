"""Pixel-space models against the original programs (goldens: tests/golden/models/make_pixel_goldens.py)."""

import tempfile
import unittest
from pathlib import Path

import torch
from pixel_support import Golden

# isort: split
import adm
from download import sha256_of
import consistency
import contract
import edm
import export
import safe_load
from export import Sizes
from openai_unet import build_unet


EDM = ("ddpmpp", "ncsnpp", "skips", "residual", "adm", "iddpm", "whole")


class ModelTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def assert_close(self, actual, expected, tolerance=1e-5):
        self.assertLessEqual(contract.relative_error(actual, expected), tolerance)

    def assert_denoises_as(self, golden, model, condition, key="denoised"):
        """Image by image, and the network's part of it: near sigma_min D is almost x whatever the network says."""
        with torch.no_grad():
            denoised = model(golden.x, golden.sigma, condition)
        for x, sigma, one, original in zip(golden.x, golden.sigma, denoised, golden.arrays[key]):
            self.assert_close(one, original)
            self.assert_close((x - one) / sigma, (x - original) / sigma)

    def saved(self, name, weights):
        path = self.folder / f"{name}.pt"
        torch.save(weights, path)
        return path


def edm_model(golden):
    model, facts = edm.read_content(golden.pickled(), "cifar10", {})
    return model.eval().requires_grad_(False), facts


class EdmModels(ModelTest):
    def one_hot(self, golden):
        labels = golden.recipe["labels"]
        return torch.nn.functional.one_hot(golden.labels, labels).float() if labels else None

    def test_denoised_images_are_the_originals_for_every_network_and_preconditioning(self):
        for name in EDM:
            with self.subTest(name):
                golden = Golden(name)
                model, facts = edm_model(golden)
                for version in (model, torch.jit.script(model)):
                    self.assert_denoises_as(golden, version, self.one_hot(golden))
                    if golden.recipe["labels"]:
                        self.assert_denoises_as(golden, version, None, "unlabelled")

    def test_facts_come_from_the_pickle(self):
        expected = {
            "ddpmpp": dict(channels=3, label_dim=0, condition="none", precision="float16", noise=None),
            "ncsnpp": dict(channels=3, label_dim=4, condition="label", label_format="onehot", precision="float32"),
            "residual": dict(channels=2, resolution=16, noise={"kind": "vp", "beta_d": 19.9, "beta_min": 0.1}),
            "adm": dict(label_dim=5, precision="float16"),
        }
        for name, facts in expected.items():
            with self.subTest(name):
                self.assertEqual(facts | edm_model(Golden(name))[1], edm_model(Golden(name))[1] | facts)

    def test_sigma_range_is_the_files_or_edm_s_where_that_is_open(self):
        for name in EDM:
            with self.subTest(name):
                low, high = Golden(name).arrays["sigma_range"].tolist()
                facts = edm_model(Golden(name))[1]
                self.assertEqual(
                    (facts["sigma_min"], facts["sigma_max"]), (low or 0.002, min(high, 80.0) if low == 0 else high)
                )

    def test_a_whole_pickle_exports_by_the_command_and_gives_the_originals_images(self):
        golden, source = Golden("whole"), self.folder / "model.pkl"
        source.write_bytes(golden.pickle_bytes())
        path = export.export("imagenet64", [source], self.folder / "denoiser.ts")
        facts = contract.read_facts(path)
        self.assertEqual((facts["dataset_name"], facts["label_dim"]), ("imagenet64", 3))
        self.assertEqual(facts["source"], {"model.pkl": sha256_of(source)})
        self.assert_denoises_as(golden, torch.jit.load(str(path)), self.one_hot(golden))

    def test_in_double_precision_the_gradient_is_that_of_the_function(self):
        golden = Golden("whole")
        model = torch.jit.script(edm_model(golden)[0]).double()
        x = golden.x[:1].double()
        direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        value = lambda step: (model(x + step * direction, golden.sigma[1:2].double(), None) ** 2).sum()  # noqa: E731
        step = torch.zeros((), dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(value(step), step)
        self.assertAlmostEqual(float((value(1e-5) - value(-1e-5)) / 2e-5 / slope), 1.0, delta=1e-7)

    def test_the_network_alone_runs_in_another_precision(self):
        for name in ("ddpmpp", "ncsnpp", "adm"):
            with self.subTest(name):
                golden = Golden(name)
                model = torch.jit.script(edm_model(golden)[0])
                model.network.to(torch.bfloat16)
                with torch.no_grad():
                    denoised = model(golden.x, golden.sigma, self.one_hot(golden))
                self.assertEqual(denoised.dtype, torch.float32)
                self.assert_close(denoised, golden.arrays["denoised"], 0.05)

    def test_a_missing_a_surplus_and_a_misshapen_weight_are_all_named(self):
        content = Golden("whole").pickled()
        network = content["ema"].state["_modules"]["model"].state
        del network["_modules"]["map_layer0"].state["_parameters"]["bias"]
        network["_modules"]["map_layer1"].state["_parameters"]["gain"] = torch.ones(1)
        network["_modules"]["map_label"].state["_parameters"]["weight"] = torch.ones(8, 4)
        with self.assertRaisesRegex(
            ValueError, "lacks map_layer0.bias; has surplus map_layer1.gain; map_label.weight is"
        ):
            edm.read_content(content, "cifar10", {})

    def test_what_is_no_edm_model_is_refused_by_name(self):
        golden = Golden("whole").pickled()
        inner = golden["ema"].state["_modules"]["model"]
        for content, pattern in (
            ({"ema": inner}, "found SongUNet"),
            ({"weights": torch.ones(1)}, "found NoneType"),
            ([1], "found list"),
        ):
            with self.assertRaisesRegex(ValueError, pattern):
                edm.read_content(content, "cifar10", {})
        golden["ema"].state["_modules"]["model"] = safe_load.make_record("UViT", state=inner.state)
        with self.assertRaisesRegex(ValueError, "network is a UViT"):
            edm.read_content(golden, "cifar10", {})


class ConsistencyModels(ModelTest):
    def read(self, golden):
        sizes = Sizes(resolution=16, head_channels=golden.recipe["head_channels"])
        return consistency.read_model("lsun_bedroom", [self.saved(golden.name, golden.weights())], sizes)

    def test_denoised_images_are_the_originals(self):
        for name in ("cm", "cm_labels"):
            with self.subTest(name):
                golden = Golden(name)
                model, facts = self.read(golden)
                self.assertEqual((facts["resolution"], facts["label_dim"]), (16, golden.recipe["labels"]))
                for version in (model.eval(), torch.jit.script(model.eval())):
                    self.assert_denoises_as(golden, version, golden.labels if golden.recipe["labels"] else None)

    def test_the_command_writes_a_model_file(self):
        golden = Golden("cm")
        path = export.export(
            "lsun_cat", [self.saved("cm", golden.weights())], self.folder / "denoiser.ts", Sizes(16, 32)
        )
        self.assert_denoises_as(golden, torch.jit.load(str(path)), None)

    def test_heads_that_do_not_divide_the_channels_are_refused(self):
        with self.assertRaisesRegex(ValueError, "do not divide by --head_channels 48"):
            build_unet(Golden("cm").weights(), Sizes(head_channels=48))

    def test_a_missing_and_a_surplus_weight_are_both_named(self):
        weights = Golden("cm").weights()
        del weights["out.0.bias"]
        weights["out.7.weight"] = torch.ones(1)
        with self.assertRaisesRegex(ValueError, "lacks out.0.bias; has surplus out.7.weight"):
            build_unet(weights, Sizes(head_channels=32))


class GuidedModels(ModelTest):
    def files(self, golden):
        return [self.saved("diffusion", golden.weights()), self.saved("classifier", golden.weights("classifier_"))]

    def read(self, golden):
        model, facts = adm.read_model("imagenet256", self.files(golden), Sizes(resolution=16, head_channels=32))
        return model.eval(), facts

    def test_denoised_images_are_the_originals(self):
        for name in ("guided", "guided_plain"):
            with self.subTest(name):
                golden = Golden(name)
                model, _ = self.read(golden)
                for version in (model, torch.jit.script(model)):
                    self.assert_denoises_as(golden, version, golden.labels)

    def test_attention_in_the_new_order_takes_the_same_channels_elsewhere(self):
        golden = Golden("guided")
        weights = golden.weights()
        for name in [name for name in weights if ".qkv." in name]:
            old = weights[name]
            heads = old.shape[0] // (3 * 32)
            weights[name] = old.reshape(heads, 3, 32, -1).transpose(0, 1).reshape(old.shape)
        files = [self.saved("diffusion", weights), self.saved("classifier", golden.weights("classifier_"))]
        sizes = Sizes(resolution=16, head_channels=32, new_attention_order=True)
        self.assert_denoises_as(golden, adm.read_model("imagenet256", files, sizes)[0].eval(), golden.labels)

    def test_a_number_of_heads_is_the_unets_and_leaves_the_channels_of_a_head_to_the_classifier(self):
        golden = Golden("guided")
        heads = {value.shape[0] // (3 * 32) for name, value in golden.weights().items() if name.endswith(".qkv.weight")}
        sizes = Sizes(resolution=16, head_channels=32, num_heads=heads.pop())
        self.assertFalse(heads, "this test needs one width of attention")
        self.assert_denoises_as(golden, adm.read_model("imagenet256", self.files(golden), sizes)[0].eval(), golden.labels)

    def test_the_classifier_and_its_gradient_are_the_originals(self):
        for name in ("guided", "guided_plain"):
            with self.subTest(name):
                golden = Golden(name)
                model, _ = self.read(golden)
                for version in (model, torch.jit.script(model)):
                    x = golden.x.clone().requires_grad_(True)
                    log_prob = version.log_prob(x, golden.sigma, golden.labels)
                    self.assert_close(log_prob, golden.arrays["log_prob"])
                    (gradient,) = torch.autograd.grad(log_prob.sum(), x)
                    for one, original in zip(gradient, golden.arrays["gradient"]):
                        self.assert_close(one, original, 3e-5)

    def test_the_sigma_range_is_exact(self):
        _, facts = self.read(Golden("guided"))
        self.assertAlmostEqual(facts["sigma_min"], 0.0104860, delta=5e-8)
        self.assertAlmostEqual(facts["sigma_max"], 152.16697, delta=1e-5)

    def test_the_resolution_follows_from_the_weights(self):
        golden = Golden("guided")
        self.assertEqual(
            adm.read_model("imagenet256", self.files(golden), Sizes(head_channels=32))[1]["resolution"], 16
        )

    def test_a_resolution_that_the_classifier_cannot_have_is_refused(self):
        with self.assertRaisesRegex(ValueError, "give --resolution"):
            adm.read_model("imagenet256", self.files(Golden("guided")), Sizes(resolution=24, head_channels=32))

    def test_the_command_writes_a_model_file_with_its_classifier(self):
        golden = Golden("guided")
        path = export.export("imagenet256", self.files(golden), self.folder / "denoiser.ts", Sizes(16, 32))
        facts, model = contract.read_facts(path), torch.jit.load(str(path))
        self.assertEqual((facts["classifier"], facts["clamp"], facts["label_format"]), (True, True, "index"))
        self.assert_denoises_as(golden, model, golden.labels)
        self.assert_close(model.log_prob(golden.x, golden.sigma, golden.labels), golden.arrays["log_prob"])


if __name__ == "__main__":
    unittest.main(warnings="ignore")
