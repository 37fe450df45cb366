"""Checkpoints and options that do not fit are refused in one line that names what is wrong; nothing is left behind."""

import contextlib
import io
import sys
import unittest
from pathlib import Path
from unittest import mock

import torch

import latent_support
from pixel_support import Golden, ModelTest

# isort: split
import adm
import export
import ldm
from export import Sizes
from ldm import read_ldm
from openai_unet import build_classifier, build_unet
from sd import read_sd
from unet_reader import Heads


def other_ranks(value):
    yield value.reshape(-1) if value.dim() != 1 else value[None]
    yield value[None, None]
    yield value.new_zeros([0] * value.dim())


class Refusals(ModelTest):
    def assert_every_rank_is_checked(self, state, read, step):
        names = [name for name, value in state.items() if value.is_floating_point() and value.dim() > 0]
        for name in names[::step]:
            for value in other_ranks(state[name]):
                with self.subTest(name, shape=list(value.shape)):
                    try:
                        read(state | {name: value})
                    except ValueError as error:
                        self.assertNotIn("\n", str(error))
                        self.assertNotIn("unpack", str(error))

    def test_weights_of_another_rank_never_end_in_another_exception(self):
        sizes = Sizes(16, 32)
        self.assert_every_rank_is_checked(Golden("cm").weights(), lambda state: build_unet(state, sizes), 1)
        golden = latent_support.Golden("ldm")
        heads = Heads(**golden.options)
        self.assert_every_rank_is_checked(golden.state, lambda state: read_ldm(state, None, heads), 5)

    def test_surplus_and_missing_entries_are_named(self):
        weights = Golden("cm").weights()
        for surplus in ("middle_block.3", "middle_block.9"):
            with self.assertRaisesRegex(ValueError, surplus):
                build_unet(weights | {surplus + ".in_layers.0.weight": torch.zeros(32)}, Sizes(16, 32))
        for name in ("out.2.positional_embedding", "out.2.c_proj.weight"):
            classifier = {"time_embed.0.weight": torch.zeros(8, 4), "input_blocks.0.0.weight": torch.zeros(32, 3, 3, 3)}
            classifier |= {"output": torch.zeros(1), "out.0.weight": torch.zeros(32)}
            classifier |= {
                "out.2.positional_embedding": torch.zeros(32, 17),
                "out.2.c_proj.weight": torch.zeros(9, 32, 1),
            }
            del classifier[name]
            with self.assertRaisesRegex(ValueError, "lacks .*" + name):
                build_classifier(classifier, 32, 1)

    def test_a_message_stays_short(self):
        with self.assertRaises(ValueError) as caught:
            build_unet(Golden("cm").weights() | {f"x{i}": torch.zeros(1) for i in range(9999)}, Sizes(16, 32))
        self.assertLess(len(str(caught.exception)), 400)
        self.assertIn("and 9994 more", str(caught.exception))

    def test_a_classifier_before_its_unet_is_told(self):
        for name, content in (("a", {"input_blocks.0.0.weight": torch.zeros(1)}), ("b", Golden("cm").weights())):
            torch.save(content, self.folder / name)
        a, b = self.folder / "a", self.folder / "b"
        for files in ((a, b), (b, b)):
            with self.assertRaisesRegex(ValueError, "the diffusion model comes first, then the classifier"):
                adm.read_model("imagenet256", list(files), Sizes(16, 32))

    def test_inpainting_is_refused(self):
        golden = latent_support.Golden("sd")
        name = "model.diffusion_model.input_blocks.0.0.weight"
        old = golden.state[name]
        golden.state[name] = torch.cat([old, old, old[:, :1]], 1)
        with self.assertRaisesRegex(ValueError, "takes 9 channels and makes 4: inpainting"):
            read_sd(golden.state, Heads(4), 8)

    def test_the_command_says_what_a_file_is_and_leaves_nothing(self):
        page = self.folder / "model.ckpt"
        page.write_text("<html><title>Sign in</title></html>")
        self.assertIn("a web page", self.refused("ms_coco", "--source", page))
        self.assertIn("a web page", self.refused("cifar10", "--source", page, "--dest", f"{self.folder}/out/"))
        torch.save(latent_support.Golden("sd").state, page)
        said = self.refused(
            "ms_coco",
            "--source",
            page,
            "--num_heads",
            4,
            "--head_channels",
            8,
            "--resolution",
            9,
            "--scale_factor",
            0.18215,
            "--dest",
            self.folder / "out/x.ts",
        )
        self.assertIn("fails on inputs", said)
        left = [path.name for path in (self.folder / "out").glob("*")] if (self.folder / "out").exists() else []
        self.assertEqual(left, [])

    def test_an_address_is_no_source(self):
        with contextlib.redirect_stderr(io.StringIO()) as err, self.assertRaises(SystemExit):
            with mock.patch.object(sys, "argv", ["export.py", "cifar10", "--source", "https://host/x.pkl"]):
                export.main()
        self.assertIn("https://host/x.pkl is an address", err.getvalue())

    def test_a_source_that_is_missing_is_named(self):
        for name in ("ms_coco", "my-model"):
            self.assertIn("none.ckpt: there is no such", self.refused(name, "--source", self.folder / "none.ckpt"))

    def test_options_of_diffusers_folders_are_refused_elsewhere(self):
        file = self.folder / "a.ckpt"
        file.touch()
        for option, value in (("--prediction_type", "v_prediction"), ("--variant", "fp16")):
            names = ["ffhq_ldm" if option == "--prediction_type" else "ms_coco"], ["my-model", "--family", "edm"]
            for name in names:
                self.assertIn(f"{option} is for folders", self.refused(*name, "--source", file, option, value))

    def test_an_unforeseen_error_is_one_line(self):
        with mock.patch.object(export, "read_model", side_effect=IndexError("deep\ndown")):
            self.assertIn("IndexError: deep down", self.refused("ms_coco", "--source", "x"))

    def test_the_scale_factor_comes_from_the_config_or_the_option(self):
        checkpoint, file = ldm.LatentCheckpoint({}), self.folder / "model.ckpt"
        with contextlib.redirect_stderr(io.StringIO()) as err:
            self.assertEqual(checkpoint.scale_factor(1.0, None, file), 1.0)
        self.assertIn("--scale_factor gives another", err.getvalue())
        (self.folder / "config.yaml").write_text("model:\n  params:\n    scale_factor: 0.25 # constant\n")
        self.assertEqual(checkpoint.scale_factor(1.0, None, file), 0.25)
        self.assertEqual(checkpoint.scale_factor(1.0, 0.5, file), 0.5)
        (self.folder / "other.yml").write_text("scale_factor: 0.5\n")
        with self.assertRaisesRegex(ValueError, "0.25, 0.5: give --scale_factor"):
            checkpoint.scale_factor(1.0, None, file)
        stored = ldm.LatentCheckpoint({"scale_factor": torch.tensor(0.75)})
        self.assertEqual(stored.scale_factor(1.0, None, file), 0.75)
        with self.assertRaisesRegex(ValueError, "is not that of the checkpoint"):
            stored.scale_factor(1.0, 0.5, file)

    def test_the_cache_keeps_a_model_of_another_kind(self):
        facts = {key: 1 for key in export.KIND} | {"source": {"a.pkl": "1"}}
        with mock.patch.object(export.contract, "read_facts", return_value=facts):
            with self.assertRaisesRegex(ValueError, "another kind .resolution 1, here 2.*--dest"):
                export.check_replaced(Path("x"), facts | {"resolution": 2})
            with contextlib.redirect_stderr(io.StringIO()) as err:
                export.check_replaced(Path("x"), facts | {"source": {"b.pkl": "2"}})
            self.assertEqual(err.getvalue(), "export: replaces x, made from a.pkl\n")


if __name__ == "__main__":
    unittest.main(warnings="ignore")
