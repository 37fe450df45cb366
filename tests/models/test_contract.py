"""Model files: what is written is what was verified, whole or not at all; and the demo's file is its weights'."""

import json
import tempfile
import unittest
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn

from pixel_support import ROOT

# isort: split
import contract
from contract import make_facts, read_facts, write_model
from demo import export as demo
from download import sha256_of
from preconditioning import EdmDenoiser, NoiseFeatures, geometric_frequencies

FACTS = make_facts(dataset_name="small", resolution=8, channels=3, sigma_min=0.002, sigma_max=80.0)


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor, sigma: Tensor, condition: Tensor | None = None) -> Tensor:
        return x - sigma[:, None, None, None] * self.network(x)


class OtherWhenScripted(Small):
    def forward(self, x: Tensor, sigma: Tensor, condition: Tensor | None = None) -> Tensor:
        y = x - sigma[:, None, None, None] * self.network(x)
        return y * 1.0001 if torch.jit.is_scripting() else y


class BrokenWhenScripted(Small):
    def forward(self, x: Tensor, sigma: Tensor, condition: Tensor | None = None) -> Tensor:
        return x * float("nan") if torch.jit.is_scripting() else x


class ModelFile(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "new" / "denoiser.ts"

    def test_a_written_model_computes_what_the_module_does(self):
        module = Small()
        write_model(module, FACTS, self.path)
        x, sigma = torch.randn(2, 3, 8, 8), torch.tensor([0.1, 9.0])
        self.assertTrue(torch.equal(torch.jit.load(str(self.path))(x, sigma, None), module(x, sigma)))

    def test_facts_are_read_without_the_weights_and_numbers_survive(self):
        facts = FACTS | {"sigma_min": 0.1 + 0.2, "noise": {"kind": "table", "alphas_cumprod": [1 / 3, 2 / 3]}}
        write_model(Small(), facts, self.path)
        self.assertEqual(read_facts(self.path), facts)

    def test_a_module_that_scripting_changes_is_not_written(self):
        for module, pattern in (
            (OtherWhenScripted(), "differs from the eager one by 1.00e-04"),
            (BrokenWhenScripted(), "by inf"),
        ):
            with self.assertRaisesRegex(ValueError, pattern):
                write_model(module, FACTS, self.path)
            self.assertFalse(self.path.exists())

    def test_on_a_gpu_the_comparison_is_in_full_float32(self):
        seen = []

        class Looking(Small):
            def forward(self, x, sigma, condition=None):
                backends = torch.backends
                seen.append((backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32))
                seen.append((torch._C._jit_texpr_fuser_enabled(), False))
                return super().forward(x, sigma, condition)

        flags = lambda: (torch.backends.cudnn.allow_tf32, torch._C._jit_texpr_fuser_enabled())  # noqa: E731
        before, model = flags(), Looking()
        contract.verify(model, model, FACTS)
        self.assertEqual(set(seen), {(False, False)})
        self.assertEqual(flags(), before)

    def test_a_failed_write_leaves_the_old_file_and_nothing_else(self):
        write_model(Small(), FACTS, self.path)
        before = self.path.read_bytes()
        with self.assertRaises(TypeError):
            write_model(Small(), FACTS | {"dataset_name": object()}, self.path)
        self.assertEqual(self.path.read_bytes(), before)
        self.assertEqual(list(self.path.parent.iterdir()), [self.path])

    def test_a_model_file_names_no_folder_of_the_machine_that_wrote_it(self):
        write_model(Small(), FACTS, self.path)
        with zipfile.ZipFile(self.path) as archive:
            for name in archive.namelist():
                self.assertNotIn(str(ROOT).encode(), archive.read(name), name)

    def test_facts_that_do_not_go_together_are_refused(self):
        good = dict(dataset_name="small", resolution=8, channels=3, sigma_min=0.002, sigma_max=80.0)
        for bad in (
            dict(condition="label"),
            dict(label_dim=3),
            dict(label_dim=3, condition="label", label_format="words"),
            dict(condition="text"),
            dict(precision="float8"),
            dict(sigma_min=0.0),
            dict(sigma_min=90.0),
            dict(sigma_max=float("inf")),
            dict(condition="text", text={"tokens": 77}),
            dict(condition="text", text={"tokens": 77, "width": 8, "columns": 3}),
            dict(condition="text", text={"tokens": 77, "width": 8, "unconditional": "ones"}),
            dict(guided_channels=2),
            dict(guided_channels=4, condition="label", label_dim=2, label_format="onehot"),
            dict(sizes={"multiple": 3}),
            dict(sizes={"least": 4}),
        ):
            with self.subTest(bad), self.assertRaises(ValueError):
                make_facts(**(good | bad))

    def test_facts_that_are_not_given_are_not_written(self):
        self.assertFalse({"guided_channels", "guide", "sizes"} & FACTS.keys())

    def test_every_promise_of_the_facts_is_called(self):
        facts = make_facts(
            dataset_name="small",
            resolution=8,
            channels=4,
            sigma_min=0.002,
            sigma_max=80.0,
            condition="text",
            text={"tokens": 6, "width": 5, "rows": 7, "unconditional": "zeros"},
            latent={"image_resolution": 64, "image_channels": 3},
            guided_channels=3,
            guide=True,
            sizes={"multiple": 2},
        )
        shapes = [(name, [list(a.shape) for a in given]) for name, given in contract.random_calls(facts, "cpu")]
        forward = lambda width: [[2, 4, 8, width], [2], [2, 7, 5]]  # noqa: E731
        self.assertEqual(
            shapes,
            [("forward", forward(8)), ("decode", [[2, 4, 8, 8]]), ("guide", forward(8))]
            + [("forward", forward(10)), ("decode", [[2, 4, 8, 10]]), ("guide", forward(10))]
            + [("encode_text", [[2, 6]])],
        )
        tokens = contract.random_calls(facts, "cpu")[-1][1][0]
        self.assertEqual((tokens == 49407).sum(1).tolist(), [3, 1])

    def test_a_guide_that_scripting_changes_is_not_written(self):
        class Guided(Small):
            @torch.jit.export
            def guide(self, x: Tensor, sigma: Tensor, condition: Tensor | None = None) -> Tensor:
                y = self.forward(x, sigma, condition)
                return y * 1.0001 if torch.jit.is_scripting() else y

        with self.assertRaisesRegex(ValueError, "scripted guide differs"):
            write_model(Guided(), FACTS | {"guide": True}, self.path)

    def test_a_file_without_facts_is_no_model_file(self):
        self.path.parent.mkdir()
        torch.jit.script(Small()).save(str(self.path))
        with self.assertRaisesRegex(ValueError, "no facts.json"):
            read_facts(self.path)


class Denoisers(unittest.TestCase):
    def test_edm_preconditioning_is_its_table(self):
        """With F = 0 only c_skip x is left; with F = its input, c_skip + c_out c_in."""

        class Network(nn.Module):
            def __init__(self, slope: float):
                super().__init__()
                self.slope = slope

            def forward(self, x: Tensor, noise: Tensor, condition: Tensor | None) -> Tensor:
                return self.slope * x

        x, sigma = torch.randn(3, 3, 4, 4, dtype=torch.float64), torch.tensor([0.01, 1.0, 50.0], dtype=torch.float64)
        variance = (sigma**2 + 0.25)[:, None, None, None]
        for slope in (0.0, 1.0):
            denoiser = EdmDenoiser(Network(slope), NoiseFeatures(geometric_frequencies(4)))
            expected = (0.25 + slope * sigma[:, None, None, None] * 0.5) / variance * x
            self.assertLess(contract.relative_error(denoiser(x, sigma), expected), 1e-14)


class Demo(unittest.TestCase):
    FILE = ROOT / "models/demo/denoiser.ts"

    def test_the_model_file_is_its_weights(self):
        denoiser = demo.make_network().eval()
        demo.load_state(denoiser, torch.load(demo.WEIGHTS, weights_only=True))
        model = torch.jit.load(str(self.FILE))
        generator = torch.Generator().manual_seed(0)
        sigma = torch.tensor([0.002, 0.1, 2.0, 80.0])
        x = torch.randn(4, 3, 32, 32, generator=generator) * (sigma**2 + 0.25).sqrt()[:, None, None, None]
        labels = torch.eye(8)[[0, 3, 7, 1]] * torch.tensor([1.0, 1.0, 0.0, 1.0])[:, None]
        with torch.no_grad():
            for condition in (labels, None):
                # The file's upsampling is folded: the same function, another order of sums.
                for one, other in zip(model(x, sigma, condition), denoiser(x, sigma, condition)):
                    self.assertLess(contract.relative_error(one, other), 3e-6)

    def test_its_facts_name_the_weights_that_it_was_made_from(self):
        facts = read_facts(self.FILE)
        self.assertEqual(facts["source"], {"ema.pt": sha256_of(demo.WEIGHTS)})
        self.assertEqual((facts["dataset_name"], facts["label_dim"], facts["label_format"]), ("demo", 8, "onehot"))

    def test_the_whole_model_runs_in_double_precision(self):
        model = torch.jit.load(str(self.FILE))
        x, sigma = torch.randn(1, 3, 32, 32), torch.tensor([1.0])
        single, double = model(x, sigma, None), model.double()(x.double(), sigma.double(), None)
        self.assertEqual(double.dtype, torch.float64)
        self.assertLess(contract.relative_error(single.double(), double), 1e-5)

    def test_the_feature_network_is_differentiable_and_takes_bytes(self):
        features = torch.jit.load(str(ROOT / "models/demo/features.ts"))
        images = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
        floats = images.float().requires_grad_(True)
        self.assertTrue(torch.equal(features(images), features(floats, return_features=True)))
        features(floats).sum().backward()
        self.assertGreater(float(floats.grad.abs().max()), 0)

    def test_the_data_are_labelled_pictures(self):
        with zipfile.ZipFile(ROOT / "models/demo/emoji32.zip") as archive:
            dataset = json.loads(archive.read("dataset.json"))
            self.assertEqual(len(dataset["labels"]), 1613)
            self.assertEqual(len(dataset["label_names"]), 8)
            self.assertEqual(set(archive.namelist()), {name for name, _ in dataset["labels"]} | {"dataset.json"})


if __name__ == "__main__":
    unittest.main(warnings="ignore")
