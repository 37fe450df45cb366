"""Consistency Models and guided diffusion against the original programs (make_pixel_goldens.py), and their variants."""

import contextlib
import io
import unittest

import torch

from pixel_support import Golden, ModelTest

# isort: split
import adm
import consistency
import contract
import export
from export import Sizes
from openai_unet import build_classifier, build_unet, classifier_levels
from state_dict import StateDict


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

    def test_a_learned_variance_is_refused(self):
        weights = Golden("cm").weights()
        for name in ("out.2.weight", "out.2.bias"):
            weights[name] = torch.cat([weights[name]] * 2)
        with self.assertRaisesRegex(ValueError, "makes 6 channels of 3: learn_sigma"):
            consistency.read_model("lsun_cat", [self.saved("cm", weights)], Sizes(16, 32))

    def test_a_resolution_that_cannot_be_halved_is_refused_in_one_line(self):
        files = [self.saved("cm", Golden("cm").weights())]
        with self.assertRaisesRegex(ValueError, "lsun_cat: forward fails on inputs of 2x3x18x18, 2: [^\n]+$"):
            export.export("lsun_cat", files, self.folder / "denoiser.ts", Sizes(18, 32))

    def test_a_missing_and_a_surplus_weight_are_both_named(self):
        weights = Golden("cm").weights()
        del weights["out.0.bias"]
        weights["out.7.weight"] = torch.ones(1)
        with self.assertRaisesRegex(ValueError, "lacks out.0.bias; has surplus out.7.weight"):
            build_unet(weights, Sizes(head_channels=32))


class UnetsOfOtherKinds(ModelTest):
    """The U-Nets of Consistency Models, guided diffusion and latent diffusion are read in one way (unet_reader.py)."""

    def assert_same(self, weights, others, sizes=Sizes(head_channels=32), other_sizes=Sizes(head_channels=32)):
        generator = torch.Generator().manual_seed(1)
        x, noise = torch.randn(2, 3, 16, 16, generator=generator), torch.randn(2, 32, generator=generator)
        label = torch.tensor([1, 3])
        with torch.no_grad():
            one, other = (build_unet(*given)(x, noise, label) for given in ((weights, sizes), (others, other_sizes)))
        self.assert_close(one, other)

    def test_resampling_without_weights_averages_four_pixels_and_repeats_one(self):
        weights = Golden("guided_plain").weights()
        resampling = [name for name in weights if name.endswith((".op.weight", ".conv.weight"))]
        for name in resampling:  # convolutions that do the same
            kernel = torch.zeros(3, 3)
            kernel[1:, 1:] = 0.25
            if ".conv." in name:
                kernel = torch.zeros(3, 3)
                kernel[1, 1] = 1
            weights[name] = torch.eye(len(weights[name]))[:, :, None, None] * kernel
            weights[name.replace("weight", "bias")].zero_()
        bare = {name: value for name, value in weights.items() if ".op." not in name and ".conv." not in name}
        self.assertEqual(len(resampling), 4)
        self.assert_same(weights, bare)

    def test_whole_layers_that_are_missing_are_not_taken_for_layers_without_weights(self):
        whole = Golden("guided_plain").weights()
        for missing, named in (
            ("input_blocks.1.", "lacks every entry below input_blocks.1"),
            ("input_blocks.3.", "lacks every entry below input_blocks.3"),
            ("input_blocks.8.", "lacks every entry below input_blocks.8"),
            ("output_blocks.2.2.", "lacks one of input_blocks.6.0.op and output_blocks.2.2.conv"),
            ("output_blocks.1.", "lacks every entry below output_blocks.1"),
        ):
            weights = {name: value for name, value in whole.items() if not name.startswith(missing)}
            with self.subTest(missing), self.assertRaisesRegex(ValueError, named):
                build_unet(weights, Sizes(head_channels=32))

    def test_heads_on_the_way_up_may_be_others(self):
        weights = Golden("cm").weights()
        silent_down, silent_up = dict(weights), dict(weights)
        for name in [name for name in weights if ".proj_out." in name]:
            target = silent_up if name.startswith("output_blocks") else silent_down
            target[name] = torch.zeros_like(weights[name])
        both, up_alone = Sizes(num_heads=2, num_heads_upsample=4), Sizes(num_heads=4)
        self.assert_same(silent_down, silent_down, both, up_alone)
        self.assert_same(silent_up, silent_up, both, Sizes(num_heads=2))
        with self.assertRaisesRegex(ValueError, "--num_heads_upsample goes with --num_heads"):
            build_unet(weights, Sizes(num_heads_upsample=4))
        with self.assertRaisesRegex(ValueError, "do not divide by --num_heads_upsample 3"):
            build_unet(weights, Sizes(num_heads=2, num_heads_upsample=3))


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
        self.assert_denoises_as(
            golden, adm.read_model("imagenet256", self.files(golden), sizes)[0].eval(), golden.labels
        )

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

    def test_logits_of_every_kind_of_classifier_are_the_originals(self):
        for name in ("classifier_adaptive", "classifier_spatial", "classifier_spatial_v2"):
            with self.subTest(name):
                golden = Golden(name)
                levels = classifier_levels(StateDict(golden.weights()), golden.recipe["levels"], None)
                self.assertEqual(levels, golden.recipe["levels"])
                classifier = build_classifier(golden.weights(), 32, levels).eval()
                scaled = golden.x / (golden.sigma**2 + 1).sqrt()[:, None, None, None]
                features = adm.time_features(classifier.time_embed)(golden.sigma)
                for version in (classifier, torch.jit.script(classifier)):
                    self.assert_close(version(scaled, features), golden.arrays["logits"])
                self.assertEqual(classifier.classes, 10)

    def test_heads_of_the_classifier_may_be_others(self):
        golden = Golden("guided")
        sizes = Sizes(resolution=16, head_channels=16, condition_head_channels=32)
        model, _ = adm.read_model("imagenet256", self.files(golden), sizes)
        self.assert_close(model.log_prob(golden.x, golden.sigma, golden.labels), golden.arrays["log_prob"])

    def test_a_unet_without_labels_is_left_to_the_classifier(self):
        golden = Golden("guided")
        weights = golden.weights()
        weights["label_emb.weight"].zero_()
        expected = adm.read_model("imagenet256", [self.saved("zero", weights), self.files(golden)[1]], Sizes(16, 32))[0]
        del weights["label_emb.weight"]
        files = [self.saved("unlabelled", weights), self.files(golden)[1]]
        with contextlib.redirect_stderr(io.StringIO()) as said:
            model, facts = adm.read_model("imagenet256", files, Sizes(16, 32))
        self.assertRegex(said.getvalue(), "no label_emb.weight.*classifier alone")
        self.assertEqual((facts["condition"], facts["label_dim"], facts["classifier"]), ("label", 10, True))
        golden.arrays["denoised"] = expected(golden.x, golden.sigma, golden.labels)
        self.assert_denoises_as(golden, torch.jit.script(model.eval()), golden.labels)

    def test_a_unet_and_a_classifier_that_do_not_go_together_are_refused(self):
        golden = Golden("guided")
        for name, count, reason in (
            ("label_emb.weight", 3, "has 3 labels, the classifier 10"),
            ("out.2.weight", 4, "makes 4 channels of 3"),
            ("input_blocks.0.0.weight", 2, "takes 2 channels, the classifier 3"),
        ):
            weights = golden.weights()
            weights[name] = weights[name][:, :count] if "input" in name else weights[name][:count]
            if name == "out.2.weight":
                weights["out.2.bias"] = weights["out.2.bias"][:count]
            files = [self.saved("other", weights), self.files(golden)[1]]
            with self.subTest(name), self.assertRaisesRegex(ValueError, reason):
                adm.read_model("imagenet256", files, Sizes(16, 32))

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
        with self.assertRaisesRegex(ValueError, "--resolution 24 does not fit"):
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
