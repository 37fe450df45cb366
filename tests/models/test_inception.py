"""The Inception detectors: equal to the original programs, complete, differentiable, and honest about foreign files."""

import contextlib
import io
import os
import sys
import tempfile
import unittest
import warnings
from pathlib import Path
from unittest import mock

import numpy
import torch

from inception_support import GOLDEN, inception, pictures, random_weights

# isort: split
import export  # models/, which inception_support put on the path

torch.set_num_threads(1)


class Detectors(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        cls.weights = cls.folder / "weights.pth"
        torch.save(random_weights(), cls.weights)

    def save(self, weights: dict[str, torch.Tensor]) -> Path:
        path = self.folder / "other.pth"
        torch.save(weights, path)
        return path

    def test_features_are_those_of_the_original_programs(self):
        with numpy.load(GOLDEN) as golden:
            for name in inception.NAMES:
                detector = torch.jit.load(inception.export(name, self.weights, self.folder / f"{name}.ts"))
                with torch.no_grad():
                    features = detector(pictures())
                self.assertEqual((features.dtype, features.shape), (torch.float32, (2, 2048)))
                expected = torch.from_numpy(golden[name])
                error = (features[:, ::16] - expected).abs().max() / expected.abs().max()
                self.assertLess(float(error), 1e-5, name)

    def test_the_two_ways_to_the_input_differ(self):
        one, other = (inception.Inception(half_pixel).prepare(pictures()) for half_pixel in (False, True))
        self.assertEqual(one.shape, (2, 3, 299, 299))
        self.assertGreater(float((one - other).abs().max()), 0.1)

    def test_an_image_of_the_input_size_is_scaled_alone(self):
        image = torch.arange(299).repeat(1, 3, 299, 1).clamp(max=255).to(torch.uint8)
        prepared = inception.Inception(half_pixel=False).prepare(image)
        self.assertTrue(torch.equal(prepared, (image.float() - 128) / 128))

    def test_gradients_reach_float_pictures(self):
        detector = inception.read_inception(self.weights, "inception").eval()
        images = pictures()[:1].float().requires_grad_()
        detector(images).sum().backward()
        self.assertGreater(float(images.grad.abs().sum()), 0)

    def test_copies_without_batch_counters_load(self):
        weights = {name: value for name, value in random_weights().items() if "num_batches" not in name}
        inception.read_inception(self.save(weights), "inception")

    def test_a_missing_surplus_or_misshapen_weight_is_refused_by_name(self):
        lacking, surplus, wrong = random_weights(), random_weights(), random_weights()
        del lacking["Mixed_6b.branch7x7_2.conv.weight"]
        surplus["AuxLogits.conv0.conv.weight"] = torch.zeros(1)
        wrong["Conv2d_1a_3x3.bn.weight"] = torch.zeros(31)
        for weights, complaint in (
            (lacking, "lacks Mixed_6b.branch7x7_2.conv.weight"),
            (surplus, "surplus AuxLogits.conv0.conv.weight"),
            (wrong, r"Conv2d_1a_3x3.bn.weight is \[31\] instead of \[32\]"),
        ):
            with self.assertRaisesRegex(ValueError, complaint):
                inception.read_inception(self.save(weights), "inception")

    def test_torchscript_is_taken_as_it_is(self):
        script = torch.jit.script(torch.nn.Flatten())
        source = self.folder / "inception-2015-12-05.pt"
        script.save(str(source))
        dest = inception.export("inception", source, self.folder / "taken.ts")
        self.assertEqual(dest.read_bytes(), source.read_bytes())
        with self.assertRaisesRegex(ValueError, "its own resize"):
            inception.export("inception-pytorch", source, self.folder / "refused.ts")
        self.assertFalse((self.folder / "refused.ts").exists())

    def test_the_export_command_writes_into_the_cache(self):
        command, out = ["export.py", "inception", "--source", str(self.weights)], io.StringIO()
        with mock.patch.object(sys, "argv", command), mock.patch.dict(os.environ, {"EPD_CACHE": str(self.folder)}):
            with contextlib.redirect_stdout(out):
                self.assertEqual(export.main(), 0)
        self.assertEqual(out.getvalue().strip(), str(self.folder / "models/inception/inception.ts"))
        self.assertEqual([path.name for path in (self.folder / "models/inception").iterdir()], ["inception.ts"])


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    unittest.main()
