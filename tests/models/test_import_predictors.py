"""Released predictors come out of their pickles number for number, and nothing else does."""

import json
import runpy
import tempfile
import unittest
from pathlib import Path

import torch

from pixel_support import ROOT, Pickled, persistent, write_pickle

# isort: split
import import_predictors
from safe_load import UnsafePickle

PUBLISHED = sorted((ROOT / "exp").glob("000[0-3][0-9]-*/predictor.json"))
NAMES = import_predictors.PARAMETERS


def pickled(predictor, options, **more):
    """The predictor as the public program pickles it."""
    state = {
        name: options[name] for name in ("M", "alpha", "predict_x0", "lower_order_final", "sampler_tea", "max_order")
    }
    state |= {
        name: predictor[name]
        for name in ("dataset_name", "num_steps", "num_points", "afs", "fcn", "scale_dir", "scale_time")
    }
    state |= dict(
        sampler_stu=predictor["kind"], img_resolution=predictor["resolution"], guidance_type=predictor["guidance_type"]
    )
    state |= dict(schedule_type=predictor["schedule"]["type"], schedule_rho=predictor["schedule"]["rho"])
    state |= dict(guidance_rate=predictor["guidance_rate"] or 0.0, _buffers={}, _modules={})
    parameters = predictor["parameters"]
    state["_parameters"] = {
        NAMES[name]: torch.nn.Parameter(torch.tensor(values)) for name, values in parameters.items()
    }
    return {"model": persistent("EPD_predictor", state | more), "loss_fn": persistent("EPD_loss", {})}


class Import(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def run_folder(self, path, **more):
        """A run folder as released, made from one of ours."""
        predictor, options = (
            json.loads((path.parent / name).read_text()) for name in ("predictor.json", "training_options.json")
        )
        folder = self.folder / path.parent.name
        folder.mkdir()
        write_pickle(pickled(predictor, options, **more), folder / "network-snapshot-000010.pkl")
        released = {"optimizer_kwargs": {"lr": options["lr"]}, "cos_lr_schedule": options["coslr"]}
        released |= {"batch_size": options["batch"], "total_kimg": options["total_kimg"], "seed": options["seed"]}
        (folder / "training_options.json").write_text(json.dumps(released))
        return folder

    def unsealed(self, text):
        before = text[: text.rindex(',\n  "sha256"')] + "\n}"
        self.assertEqual(import_predictors.sealed(before), text)
        return before

    def test_all_published_predictors_come_back_byte_for_byte(self):
        self.assertEqual(len(PUBLISHED), 32)
        for path in PUBLISHED:
            with self.subTest(path.parent.name):
                out = import_predictors.import_run(self.run_folder(path), self.folder / "exp", import_predictors.SOURCE)
                for name in ("predictor.json", "training_options.json"):
                    made, published = (out / name).read_text(), (path.parent / name).read_text()
                    if name == "predictor.json":  # powers in float32 differ by their last digits between CPUs
                        made, published = self.unsealed(made), self.unsealed(published)
                        times = [json.loads(text)["schedule"]["t_steps"] for text in (made, published)]
                        self.assertEqual(len(times[0]), len(times[1]))
                        for ours, theirs in zip(*times):
                            self.assertAlmostEqual(ours / theirs, 1, delta=3e-7)
                        made = made.replace(json.dumps(times[0]), json.dumps(times[1]))
                    self.assertEqual(made, published)

    def test_a_plan_with_a_seal_that_does_not_fit_is_not_run(self):
        read_plan = runpy.run_path(str(ROOT / "models/plans/plan_runner.py"))["read_plan"]
        content = {"format": "epd-plan", "version": 1, "times": [8, 0], "grid": [0, 0], "instructions": []}
        file, text = self.folder / "plan.json", import_predictors.to_text(content)
        for whole in (text, import_predictors.sealed(text)):
            file.write_text(whole)
            self.assertEqual(read_plan(file)["times"], [8, 0])
        file.write_text(whole.replace("8", "9", 1))
        with self.assertRaisesRegex(ValueError, "damaged, or edited"):
            read_plan(file)

    def test_a_polynomial_grid_needs_no_explicit_times_and_a_file_may_be_named(self):
        folder = self.run_folder(PUBLISHED[0], schedule_type="polynomial")
        out = import_predictors.import_run(folder / "network-snapshot-000010.pkl", self.folder / "exp", "mine")
        self.assertEqual(out.name, folder.name)
        schedule = json.loads((out / "predictor.json").read_text())["schedule"]
        self.assertEqual((schedule["type"], "t_steps" in schedule), ("polynomial", False))

    def test_times_are_float32_and_near_the_exact_ones(self):
        for path in PUBLISHED:
            schedule = json.loads(path.read_text())["schedule"]
            times = torch.tensor(schedule["t_steps"], dtype=torch.float64)
            self.assertTrue(torch.equal(times, times.float().double()))
            self.assertAlmostEqual(times[0].item() / schedule["sigma_max"], 1, delta=1e-6)
            self.assertAlmostEqual(times[-1].item() / schedule["sigma_min"], 1, delta=0.01)

    def test_what_is_not_understood_is_refused(self):
        path = PUBLISHED[0]
        for change, pattern in (
            (dict(dataset_name="mnist"), "'mnist'"),
            (dict(schedule_type="logsnr"), "logsnr"),
            (dict(extra=Pickled("os", "getcwd")), "refused"),
        ):
            with self.subTest(change), self.assertRaisesRegex(ValueError, pattern):
                folder = self.run_folder(path, **change)
                try:
                    import_predictors.import_run(folder, self.folder / "exp", "")
                finally:
                    for file in folder.iterdir():
                        file.unlink()
                    folder.rmdir()
        self.assertFalse((self.folder / "exp").exists())

    def test_a_pickle_of_something_else_is_refused(self):
        write_pickle({"model": persistent("Generator", {})}, self.folder / "network-snapshot-1.pkl")
        with self.assertRaisesRegex(ValueError, "no EPD predictor"):
            import_predictors.import_run(self.folder, self.folder / "exp", "")
        self.assertTrue(issubclass(UnsafePickle, ValueError))


if __name__ == "__main__":
    unittest.main(warnings="ignore")
