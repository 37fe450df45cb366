"""Compiled models: TorchScript's images to rounding, the same bits in every batch; used only where they fit."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latent_support import ROOT

sys.path.insert(0, str(ROOT / "models"))
import optimize  # noqa: E402
from contract import make_facts, read_facts, write_model  # noqa: E402
from preconditioning import EdmDenoiser, NoiseFeatures, geometric_frequencies  # noqa: E402

SAMPLE = os.environ.get("EPD_SAMPLE", str(ROOT / "build/bin/sample"))
FACTS = make_facts(
    dataset_name="small",
    resolution=8,
    channels=3,
    sigma_min=0.002,
    sigma_max=80.0,
    label_dim=4,
    condition="label",
    label_format="onehot",
)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 3, 3, padding=1)
        self.norm, self.label = nn.GroupNorm(4, 16), nn.Linear(8 + 4, 16)

    def forward(self, x: Tensor, noise: Tensor, label: Tensor | None) -> Tensor:
        assert label is not None
        dtype = self.label.weight.dtype
        emb = self.label(torch.cat([noise, label], 1).to(dtype))[:, :, None, None]
        h = self.norm(self.first(x.to(dtype)) + emb)
        tokens = h.flatten(2).transpose(1, 2).unsqueeze(1)
        attended = F.scaled_dot_product_attention(tokens, tokens, tokens).squeeze(1).transpose(1, 2)
        return self.last(F.silu(h) + attended.unflatten(2, [x.shape[2], x.shape[3]]))


@unittest.skipUnless(shutil.which("g++") and Path(SAMPLE).exists(), "needs g++ and the program sample")
class CompiledModel(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = Path(cls.temporary.name)
        cls.model = cls.write(cls.folder / "denoiser.ts", 0)
        cls.path, cls.worth = optimize.optimize(cls.model, "bf16", 4, "cpu")

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    @staticmethod
    def write(path, seed):
        torch.manual_seed(seed)
        return write_model(EdmDenoiser(Network(), NoiseFeatures(geometric_frequencies(4)), 4), FACTS, path)

    def sample(self, *options, code=0, model=None):
        """The images by name, and all that was said."""
        with tempfile.TemporaryDirectory() as out:
            command = [SAMPLE, "--device=cpu", "--precision=bf16", "--chunk=4", "--seeds=0-9", "--solver=heun"]
            command += ["--model_path", str(model or self.model), "--outdir", out, *options]
            done = subprocess.run(command, capture_output=True, text=True)
            self.assertEqual(done.returncode, code, done.stderr)
            images = {file.name: file.read_bytes() for file in Path(out).rglob("*.png")}
            manifest = Path(out, "manifest.json")
            return images, done.stderr, json.loads(manifest.read_text()) if manifest.exists() else None

    def test_only_what_is_named_lies_beside_the_model(self):
        self.assertEqual(self.path, self.folder / "denoiser.cpu-bf16-4.pt2")
        self.assertEqual({file.name for file in self.folder.iterdir()}, {"denoiser.ts", self.path.name})
        self.assertIn("times as fast", self.worth)

    def test_images_are_torchscripts_to_rounding_and_equal_in_every_batch(self):
        images, said, manifest = self.sample()
        self.assertIn(str(self.path), said)
        self.assertIn("compiled", json.dumps(manifest))
        for options in (("--batch=3",), ("--batch=64", "--engine=compiled"), ("--threads=1",)):
            self.assertEqual(self.sample(*options)[0], images, options)
        others, said, manifest = self.sample("--engine=torchscript")
        self.assertNotIn("pt2", said)
        self.assertNotIn("compiled", json.dumps(manifest))
        self.assertEqual(images.keys(), others.keys())

        inputs = optimize.example(read_facts(self.model), "cpu", 4)
        with torch.no_grad():
            compiled = torch._inductor.aoti_load_package(str(self.path))(*inputs)
            exact = torch.jit.load(str(self.model))(*inputs)
        self.assertLess(float((compiled - exact).abs().max() / exact.abs().max()), 0.05)

    def test_other_precisions_and_chunks_run_by_torchscript(self):
        for options in (("--precision=fp32",), ("--chunk=2",)):
            self.assertNotIn("pt2", self.sample(*options)[1])
            self.assertIn("--optimize", self.sample(*options, "--engine=compiled", code=1)[1])

    def test_a_file_of_another_model_or_damaged_is_said_and_not_used(self):
        with tempfile.TemporaryDirectory() as other:
            changed = self.write(Path(other, "denoiser.ts"), 1)
            package = Path(shutil.copy(self.path, other))
            plain = self.sample("--engine=torchscript", model=changed)[0]
            half = package.read_bytes()[: package.stat().st_size // 2]
            for content, reason in ((package.read_bytes(), "another model file"), (half, package.name), (b"", "")):
                package.write_bytes(content)
                images, said, _ = self.sample(model=changed)
                self.assertIn(reason, said)
                self.assertIn("TorchScript", said)
                self.assertEqual(images, plain)
                self.assertIn(reason, self.sample("--engine=compiled", model=changed, code=1)[1])

    def test_without_conditions_a_model_compiles(self):
        @torch.jit.script
        def shrink(x: Tensor, sigma: Tensor, condition: Tensor | None) -> Tensor:
            return x / (1 + sigma[:, None, None, None].square())

        inputs = [torch.randn(2, 3, 8, 8), torch.rand(2)]
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            package = Path(folder, "model.pt2")
            optimize.compile_forward(shrink, inputs, package)
            compiled = torch._inductor.aoti_load_package(str(package))(*inputs)
        torch.testing.assert_close(compiled, shrink(*inputs, None))

    def test_a_compilation_that_is_stopped_leaves_no_compiled_model(self):
        with tempfile.TemporaryDirectory() as other:
            model = shutil.copy(self.model, other)
            call = f"import optimize, pathlib; optimize.optimize(pathlib.Path({model!r}), 'fp32', 2, 'cpu')"
            child = subprocess.Popen(
                [sys.executable, "-c", call], env=os.environ | {"PYTHONPATH": str(ROOT / "models")}
            )
            while not list(Path(other).glob(".optimize-*/cache/*")):
                self.assertIsNone(child.poll())
                time.sleep(0.1)
            child.send_signal(signal.SIGKILL)
            child.wait()
            self.assertFalse(list(Path(other).glob("*.pt2")))
            self.assertNotIn("pt2", self.sample("--chunk=2", "--precision=fp32", model=model)[1])


if __name__ == "__main__":
    unittest.main()
