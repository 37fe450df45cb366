"""Latent models from checkpoint files: as training saves them, safetensors, in archives; and files that do not fit."""

import contextlib
import io
import json
import os
import pickle
import sys
import tempfile
import unittest
import warnings
import zipfile
from pathlib import Path
from unittest import mock

import torch

from latent_support import ROOT, Golden, is_weight, save_safetensors

sys.path.insert(0, str(ROOT / "models"))
import contract  # noqa: E402
import export  # noqa: E402
from archive import load_checkpoint  # noqa: E402


class LatentFiles(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def save(self, golden: Golden, name: str = "model.ckpt") -> Path:
        """As Lightning saves a training run: the state dict among other things."""
        path = self.folder / name
        torch.save(
            {
                "epoch": 3,
                "global_step": 12345,
                "state_dict": golden.state,
                "lr_schedulers": [],
                "callbacks": {"x": None},
            },
            path,
        )
        return path

    def packed(self, *files: Path) -> Path:
        archive = self.folder / "archive.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
            for file in files:
                target.write(file, "folder/" + file.name)
        return archive

    def export(self, *arguments: object) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of the export command."""
        command, out, err = ["export.py", *map(str, arguments), "--resolution", "8"], io.StringIO(), io.StringIO()
        with mock.patch.object(sys, "argv", command), mock.patch.dict(os.environ, {"EPD_CACHE": str(self.folder)}):
            with (
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
                warnings.catch_warnings(action="ignore"),
            ):
                code = export.main()
        return code, out.getvalue(), err.getvalue()

    def assert_export_fails(self, reason: str, *arguments: object) -> None:
        code, out, err = self.export(*arguments, "--dest", self.folder / "failed.ts")
        self.assertEqual((code, out), (1, ""))
        self.assertIn(reason, err)
        self.assertEqual(err.count("\n"), 1, err)
        self.assertFalse((self.folder / "failed.ts").exists())

    def test_an_archived_ldm_checkpoint_becomes_a_model_file(self):
        golden = Golden("ldm")
        archive = self.packed(self.save(golden))
        path = self.folder / "models/lsun_bedroom_ldm/denoiser.ts"
        result = self.export("lsun_bedroom_ldm", "--source", archive, "--head_channels", 16, "--scale_factor", 1)
        self.assertEqual(result, (0, f"{path}\n", ""))
        denoised = torch.jit.load(path)(golden.arrays["x"], golden.arrays["sigma"], None)
        self.assertLessEqual(contract.relative_error(denoised, golden.arrays["denoised"]), 1e-5)
        facts = contract.read_facts(path)
        self.assertEqual(facts["source"], contract.sources(archive))
        self.assertEqual(facts["latent"], {"image_resolution": 32, "image_channels": 3})
        self.assertEqual([entry.name for entry in self.folder.glob(".unpacked*")], [])

    def test_a_stable_diffusion_file_becomes_a_model_file_with_its_tokenizer(self):
        golden = Golden("sd")
        source, dest = self.folder / "model.safetensors", self.folder / "out/denoiser.ts"
        save_safetensors(source, {name: value.float() for name, value in golden.state.items()})
        result = self.export("ms_coco", "--source", source, "--dest", dest, "--num_heads", 4, "--head_channels", 8)
        self.assertEqual(result[0], 0, result)
        model = torch.jit.load(dest)
        states = model.encode_text(golden.arrays["tokens"])
        denoised = model(golden.arrays["x"], golden.arrays["sigma"], states)
        self.assertLessEqual(contract.relative_error(denoised, golden.arrays["denoised"]), 1e-5)
        self.assertEqual(contract.read_facts(dest)["text"], {"tokens": 77, "width": 32})
        vocabulary = json.loads((dest.parent / "vocab.json").read_text(encoding="utf-8"))
        self.assertEqual((len(vocabulary), vocabulary["<|endoftext|>"], vocabulary["cat</w>"]), (49408, 49407, 2368))
        self.assertEqual(
            (dest.parent / "merges.txt").read_text(encoding="utf-8").splitlines()[:2], ["#version: 0.2", "i n"]
        )

    def test_a_half_precision_checkpoint_stays_half_and_computes_as_its_float32_twin(self):
        path = self.folder / "models/lsun_bedroom_ldm/denoiser.ts"
        for half in (torch.float16, torch.bfloat16):
            models, sizes = [], []
            for dtype in (half, torch.float32):
                golden = Golden("ldm")
                golden.state |= {
                    name: value.to(half).to(dtype) for name, value in golden.state.items() if is_weight(name, value)
                }
                result = self.export("lsun_bedroom_ldm", "--source", self.save(golden), "--head_channels", 16)
                self.assertEqual(result[0], 0, result)
                models.append(torch.jit.load(path))
                sizes.append(path.stat().st_size)
                self.assertEqual({value.dtype for value in models[-1].parameters()}, {dtype})
            for parameter in models[0].parameters():  # as the programs load it for float32
                parameter.data = parameter.data.float()
            x, sigma, latent = (golden.arrays[name] for name in ("x", "sigma", "latent"))
            self.assertTrue(torch.equal(models[0](x, sigma, None), models[1](x, sigma, None)))
            self.assertTrue(torch.equal(models[0].decode(latent), models[1].decode(latent)))
            self.assertLess(sizes[0], 0.6 * sizes[1])

    def test_a_missing_and_a_surplus_weight_are_named_in_one_line(self):
        golden = Golden("ldm")
        name = "first_stage_model.decoder.conv_out.bias"
        del golden.state[name]
        golden.state["first_stage_model.decoder.extra"] = torch.zeros(1)
        arguments = ("lsun_bedroom_ldm", "--source", self.save(golden), "--head_channels", 16)
        self.assert_export_fails(f"lacks {name}; has surplus first_stage_model.decoder.extra", *arguments)

    def test_a_checkpoint_of_another_family_is_refused(self):
        path = self.folder / "other.pt"
        torch.save({"conv.weight": torch.zeros(3)}, path)
        self.assert_export_fails("surplus conv.weight", "ms_coco", "--source", path)
        torch.save([1, 2], path)
        self.assert_export_fails("expected a state dict", "ms_coco", "--source", path)

    def test_options_that_are_no_sizes_are_wrong_usage(self):
        for option, value in (("--head_channels", "-1"), ("--num_heads", "0"), ("--use_new_attention_order", "maybe")):
            err = io.StringIO()
            command = ["export.py", "ms_coco", option, value]
            with self.subTest(option), mock.patch.object(sys, "argv", command), contextlib.redirect_stderr(err):
                with self.assertRaises(SystemExit) as ended:
                    export.main()
                self.assertEqual(ended.exception.code, 2)
                self.assertRegex(err.getvalue(), f"argument {option}: invalid (positive|truth) value: '{value}'")

    def test_an_archive_with_no_or_several_checkpoints_is_refused(self):
        other = self.folder / "readme.txt"
        other.write_text("nothing")
        with self.assertRaisesRegex(ValueError, "archive.zip: expected one checkpoint in the archive, found none"):
            load_checkpoint(self.packed(other))
        for name in ("a.ckpt", "b.ckpt"):
            torch.save({"a": torch.zeros(1)}, self.folder / name)
        with self.assertRaisesRegex(ValueError, "found folder/a.ckpt, folder/b.ckpt"):
            load_checkpoint(self.packed(self.folder / "a.ckpt", self.folder / "b.ckpt"))

    def test_a_damaged_archive_is_refused(self):
        archive = self.packed(self.save(Golden("ldm")))
        content = bytearray(archive.read_bytes())
        content[len(content) // 2] ^= 0xFF
        archive.write_bytes(content)
        with self.assertRaisesRegex(ValueError, "archive.zip"):
            load_checkpoint(archive)

    def test_a_pickle_that_runs_something_is_refused_inside_an_archive_too(self):
        mark = self.folder / "ran"

        class Hostile:
            def __reduce__(self):
                return os.mkdir, (str(mark),)

        path = self.folder / "model.ckpt"
        path.write_bytes(pickle.dumps({"state_dict": {"a": Hostile()}}))
        for source in (path, self.packed(path)):
            with self.subTest(source.name), self.assertRaisesRegex(ValueError, f"{source.name}.*refused"):
                load_checkpoint(source)
        self.assertFalse(mark.exists())


if __name__ == "__main__":
    unittest.main()
