"""EDM's models against the original programs (goldens: tests/golden/models/make_pixel_goldens.py)."""

import unittest

import torch

from pixel_support import Golden, ModelTest

# isort: split
import contract
import edm
import export
import safe_load
from download import sha256_of

EDM = ("ddpmpp", "ncsnpp", "skips", "residual", "adm", "iddpm", "whole")


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
            "ncsnpp": dict(channels=3, label_dim=4, condition="label", label_format="onehot", precision="bfloat16"),
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

    def test_missing_frequencies_of_the_noise_are_named(self):
        content = Golden("ncsnpp").pickled()
        del content["ema"].state["_modules"]["model"].state["_modules"]["map_noise"].state["_buffers"]["freqs"]
        with self.assertRaisesRegex(ValueError, "map_noise.freqs does not go with embedding_type 'fourier'"):
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


if __name__ == "__main__":
    unittest.main(warnings="ignore")
