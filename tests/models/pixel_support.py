"""The goldens of pixel-space models, and pickles in the form that EDM's programs write."""

import io
import json
import lzma
import os
import pickle
import sys
import tempfile
import types
import unittest
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

import numpy
import torch
from torch import Tensor

from latent_support import GOLDEN, ROOT, synthetic_weights

sys.path.insert(0, str(ROOT / "models"))
import contract  # noqa: E402
import safe_load  # noqa: E402
from state_dict import state_of  # noqa: E402

torch.set_num_threads(1)  # the models are tiny
SIGMAS = (0.05, 0.7, 60.0)


def inputs(channels: int, resolution: int, labels: int) -> tuple[Tensor, Tensor, Tensor]:
    """A noisy state of every noise level, and integer labels."""
    generator = torch.Generator().manual_seed(5)
    sigma = torch.tensor(SIGMAS)
    x = (
        torch.randn(len(SIGMAS), channels, resolution, resolution, generator=generator)
        * (sigma**2 + 0.25).sqrt()[:, None, None, None]
    )
    return x, sigma, torch.randint(max(labels, 1), (len(SIGMAS),), generator=generator)


class Golden:
    """One model of a file of goldens: its recipe, its inputs, and the original's outputs (`arrays`)."""

    def __init__(self, name: str, file: str = "pixel_goldens"):
        with numpy.load(GOLDEN / f"{file}.npz") as arrays:
            self.recipe = json.loads(arrays["recipes"].tobytes())[name]
            prefix = name + "/"
            self.arrays = {
                key[len(prefix) :]: torch.from_numpy(arrays[key]) for key in arrays.files if key.startswith(prefix)
            }
        self.name = name
        self.x, self.sigma, self.labels = inputs(self.recipe["channels"], 16, self.recipe["labels"])

    def weights(self, part: str = "") -> dict[str, Tensor]:
        return synthetic_weights(self.recipe[f"{part}shapes"], self.recipe[f"{part}seed"])

    def pickled(self) -> Any:
        """The content of the model's EDM pickle, its parameters drawn from the seed."""
        content = safe_load.loads(self.pickle_bytes())
        weights = self.weights()
        modules = content["ema"].state["_modules"]
        for name, value in state_of(modules.get("model") or modules["unet"]).items():
            if name in weights:
                value.copy_(weights[name])
        return content

    def pickle_bytes(self) -> bytes:
        return lzma.decompress((GOLDEN / f"edm_{self.name}.pkl.xz").read_bytes())


class ModelTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def assert_close(self, actual, expected, tolerance=1e-5):
        self.assertLessEqual(contract.relative_error(actual, expected), tolerance)

    def assert_denoises_as(self, golden, model, condition, key="denoised"):
        """Image by image, and the network's part of it: near sigma_min D is almost x whatever the network says."""
        for layout in (torch.contiguous_format, torch.channels_last):
            self.assert_one_layout_denoises_as(golden, model.to(memory_format=layout), condition, key)

    def assert_one_layout_denoises_as(self, golden, model, condition, key):
        with torch.no_grad():
            denoised = model(golden.x, golden.sigma, condition)
        for x, sigma, one, original in zip(golden.x, golden.sigma, denoised, golden.arrays[key]):
            self.assert_close(one, original)
            self.assert_close((x - one) / sigma, (x - original) / sigma)

    def saved(self, name, weights):
        path = self.folder / f"{name}.pt"
        torch.save(weights, path)
        return path

    def refused(self, *arguments):
        """The one line with which the export ends; its cache is the test's folder, in which nothing may be left."""
        import export

        before, out, err = sorted(self.folder.rglob("*")), io.StringIO(), io.StringIO()
        with mock.patch.object(sys, "argv", ["export.py", *map(str, arguments)]):
            with mock.patch.dict(os.environ, {"EPD_CACHE": str(self.folder)}), redirect_stdout(out):
                with redirect_stderr(err):
                    code = export.main()
        self.assertEqual((code, out.getvalue(), err.getvalue().count("\n")), (1, "", 1), err.getvalue())
        self.assertLess(len(err.getvalue()), 1100)
        self.assertEqual([path for path in self.folder.rglob("*") if path.is_file() and path not in before], [])
        return err.getvalue()


class Pickled:
    """An object that pickles as a call of the function `name` of `module`."""

    def __init__(self, module: str, name: str, *args: Any):
        self.module, self.name, self.args = module, name, args

    def __reduce__(self) -> tuple:
        return getattr(sys.modules[self.module], self.name), self.args


@contextmanager
def module_with(module: str, name: str) -> Iterator[None]:
    """While it lasts, `module` can be imported and has a function `name`, so that pickles can name it."""
    made = types.ModuleType(module)

    def function(*_args: Any) -> None: ...

    function.__module__, function.__qualname__, function.__name__ = module, name, name
    setattr(made, name, function)
    sys.modules[module] = made
    try:
        yield
    finally:
        del sys.modules[module]


PERSISTENCE = ("torch_utils.persistence", "_reconstruct_persistent_obj")


def persistent(class_name: str, state: dict[str, Any]) -> Pickled:
    """An object as EDM's and EPD's programs pickle theirs."""
    meta = dict(
        type="class",
        version=6,
        module_src="raise SystemExit('source of a checkpoint was run')",
        class_name=class_name,
        state=state,
    )
    return Pickled(*PERSISTENCE, meta)


def write_pickle(content: Any, path: Path) -> Path:
    with module_with("torch_utils", "nothing"), module_with(*PERSISTENCE):
        path.write_bytes(pickle.dumps(content))
    return path
