"""The zoo's predictors make the trajectories of their own public code, and come out of its files alone.

python test_zoo.py [SAMPLE]        with the program sample: by the plans that it writes, too
"""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np
import torch

import zoo_support
from pixel_support import Pickled, persistent, write_pickle
from zoo_support import ROOT, SHAPE, VP_LEVELS, ZOO, network, noise, plan_of

# isort: split
from plan_runner import read_plan, run_plan

import grids
import import_predictors

SAMPLE = sys.argv.pop(1) if len(sys.argv) > 1 and Path(sys.argv[1]).is_file() else None
TOLERANCE = 1e-4  # of the largest value of a state
TABLES = sorted(path for path in ZOO.glob("*/*.json"))


def public_trajectories():
    """(name, states as ours [calls, *SHAPE], levels, image) of each entry."""
    with np.load(ROOT / "tests" / "golden" / "zoo" / "trajectories.npz") as golden:
        begin = 0
        for n, (name, calls) in enumerate(zip(golden["names"], golden["calls"])):
            states = torch.from_numpy(golden["states"][begin : begin + calls]).reshape(-1, *SHAPE)
            told = torch.from_numpy(golden["told"][begin : begin + calls])
            if "/dit-" in name:  # told steps, and given y / sqrt(1 + sigma^2)
                told = VP_LEVELS[told.round().long()]
                states = states * (1 + told.reshape(-1, 1, 1, 1, 1) ** 2) ** 0.5
            yield str(name), states, told, torch.from_numpy(golden["image"][8 * n : 8 * n + 8]).reshape(SHAPE)
            begin += calls


class Trajectories(unittest.TestCase):
    def check(self, plan, dataset, states, levels, image):
        """The plan on the random network: what it asks, and what it makes."""
        asked, given, denoise, draws = [], [], network(dataset), zoo_support.draws()
        next(draws)

        def recording(x, level):
            asked.extend(x)
            given.extend(level.tolist())
            return denoise(x, level)

        made = run_plan(plan, noise().double(), recording, draw=lambda: next(draws))
        self.assertEqual(len(asked), len(states))
        for n, (ours, theirs) in enumerate(zip([*asked, made[0]], [*states[:, 0], image[0]])):
            self.assertLess(float((ours - theirs).abs().max() / theirs.abs().max()), TOLERANCE, f"state {n}")
        for ours, theirs in zip(given, levels.tolist()):
            self.assertAlmostEqual(ours / theirs, 1, delta=1e-6)

    def test_every_entry_makes_the_public_codes_trajectory(self):
        names = []
        for name, *golden in public_trajectories():
            predictor = json.loads((ZOO / f"{name}.json").read_text())
            names.append(name)
            if predictor["kind"] == "ns":
                with self.subTest(name):
                    self.check(plan_of(predictor), predictor["dataset_name"], *golden)
        self.assertEqual(sorted(f"{name}.json" for name in names), [str(path.relative_to(ZOO)) for path in TABLES])

    @unittest.skipUnless(SAMPLE, "the program sample is not given")
    def test_so_do_the_plans_that_sample_writes(self):
        with tempfile.TemporaryDirectory() as folder:
            for n, (name, *golden) in enumerate(public_trajectories()):
                if n % 4 and "epdpp" not in name:  # each takes a second
                    continue
                with self.subTest(name):
                    command = [SAMPLE, "--predictor_path", str(ZOO / f"{name}.json"), "--explain", "--json"]
                    done = subprocess.run(command, capture_output=True, text=True)
                    self.assertEqual(done.returncode, 0, done.stderr)
                    file = Path(folder) / "plan.json"
                    file.write_text(done.stdout)
                    self.check(read_plan(file), json.loads((ZOO / f"{name}.json").read_text())["dataset_name"], *golden)

    def test_every_entry_names_its_source_and_licence(self):
        self.assertEqual(len(TABLES), 77)
        for path in TABLES:
            source = json.loads(path.read_text())["source"]
            self.assertRegex(source, r"^github\.com/\S+ at [0-9a-f]{7}, .*\(.*arXiv [0-9.]+; .*licen[cs]e")


def dyweight_pickle(weights, scales, **loss):
    """As the public program pickles it."""
    steps = len(weights) + 1
    mask = torch.ones(steps - 1, steps - 1).tril()
    state = {"num_steps": steps, "afs": len(scales) < steps - 1, "guidance_type": None, "guidance_rate": 0.0}
    state |= {"_parameters": {"hybrid_weights": weights, "t_scale": scales}, "_buffers": {"mask": mask}, "_modules": {}}
    loss = {"dataset_name": "ffhq", "schedule_type": "polynomial", "schedule_rho": 7.0} | loss
    return {"predictor": persistent("DyWeight_predictor", state), "loss_fn": persistent("DyWeight_loss", loss)}


def adasde_pickle(steps, **options):
    state = dict(num_steps=steps + 1, num_points=2, dataset_name="ffhq", schedule_type="polynomial", schedule_rho=7.0)
    state |= dict(guidance_type=None, guidance_rate=0.0, afs=False, fcn=False, scale_dir=0.05, scale_time=0.2)
    state |= dict(gamma=0.01, gamma_min=0.0001) | options
    names = ("r_params", "scale_dir_params", "scale_time_params", "weight_s", "gamma_params")
    state |= {"_parameters": {name: torch.zeros(steps, 2) for name in names}, "_buffers": {}, "_modules": {}}
    return {"model": persistent("adasde_predictor", state), "loss_fn": None}


class Import(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def imported(self, *files):
        """What `import` writes of the files: paths below zoo/, and their JSON."""
        seen = set()
        for file in files:
            import_predictors.import_zoo(file, self.folder / "exp", "{name}", seen)
        zoo_folder = self.folder / "exp" / "zoo"
        return {str(path.relative_to(zoo_folder)): json.loads(path.read_text()) for path in zoo_folder.glob("*/*.json")}

    def test_euler_as_dyweight_is_euler(self):
        write_pickle(dyweight_pickle(torch.eye(4), torch.ones(4)), self.folder / "network-snapshot-000010.pkl")
        [(name, predictor)] = self.imported(self.folder / "network-snapshot-000010.pkl").items()
        self.assertEqual(
            (name, predictor["source"], predictor["afs"]), ("dyweight/ffhq-4.json", self.folder.name, False)
        )
        grid, x = grids.polynomial(5, 0.002, 80.0, 7.0).double(), 80 * noise().double()
        for t_cur, t_next in zip(grid[:-1], grid[1:]):
            x = x + (t_next - t_cur) * (x - zoo_support.edm(x, t_cur)) / t_cur
        made = run_plan(plan_of(predictor), noise().double(), zoo_support.edm)
        self.assertTrue(torch.allclose(made, x, rtol=1e-5, atol=1e-5))

    def test_adasde_with_neutral_parameters_is_the_midpoint_rule_on_a_noisier_state(self):
        for gamma, kind, name in ((0.01, {}, "ffhq-6"), (0.0, {"fcn": True}, "ffhq-6-ode")):
            write_pickle(adasde_pickle(3, gamma=gamma, **kind), self.folder / "network-snapshot-000010.pkl")
            predictor = self.imported(self.folder / "network-snapshot-000010.pkl")[f"adasde/{name}.json"]
            grid, x = grids.polynomial(4, 0.002, 80.0, 7.0).double(), 80 * noise().double()
            draws = [torch.randn(SHAPE, generator=torch.Generator().manual_seed(n)).double() for n in (1, 2)]
            lift = (0.0001 + (0.01 - 0.0001) * 0.6) if gamma else 0
            for n, (t, t_next) in enumerate(zip(grid[:-1], grid[1:])):
                t_hat = (1 + lift * (n > 0)) * t
                x = x + (t_hat**2 - t**2) ** 0.5 * (draws[n - 1] if n else 0)
                t_mid = (t_hat * t_next) ** 0.5
                x_mid = x + (t_mid - t_hat) * (x - zoo_support.edm(x, t_hat)) / t_hat
                x = x + (t_next - t_hat) * (x_mid - zoo_support.edm(x_mid, t_mid)) / t_mid
            made = run_plan(plan_of(predictor), noise().double(), zoo_support.edm, draw=iter(draws).__next__)
            self.assertLess(float((made - x).abs().max()), 1e-4, name)

    def test_a_second_table_of_a_name_gets_a_letter(self):
        files = [self.folder / name / "network-snapshot-000010.pkl" for name in ("00000-a", "00001-b")]
        for n, file in enumerate(files):
            file.parent.mkdir()
            write_pickle(dyweight_pickle(torch.eye(3) + 0.1 * n, torch.ones(2)), file)
        made = self.imported(*files)
        self.assertEqual({name: made[name]["source"] for name in made},
                         {"dyweight/ffhq-2.json": "00000-a", "dyweight/ffhq-2b.json": "00001-b"})  # fmt: skip

    def test_neuralsolver_s_source_is_read_and_not_run(self):
        file = self.folder / "fm_scheduling.py"
        file.write_text(
            "import os, no_such_module\nos._exit(3)\n"
            "FM_DATA_SIT = dict(step2=dict(timedeltas=[0.4, 0.6], coeffs=[[0.0, 0.0], [-0.5, 0.0]]))\n"
        )
        [(name, predictor)] = self.imported(file).items()
        self.assertEqual(name, "neuralsolver/sit-2.json")
        e = noise().double()
        v_0 = zoo_support.raw(e, torch.ones(1))
        x = e - 0.4 * v_0
        x = x - 0.6 * (1.5 * zoo_support.raw(x, torch.tensor([0.6])) - 0.5 * v_0)
        self.assertTrue(torch.allclose(run_plan(plan_of(predictor), e, zoo_support.flow), x, atol=1e-6))

    def test_what_is_not_understood_is_refused(self):
        weights, scales = torch.eye(3), torch.ones(3)
        for content, pattern in (
            (dyweight_pickle(weights, scales, dataset_name="mnist"), "'mnist'"),
            (adasde_pickle(2, dataset_name="mnist"), "'mnist'"),
            (adasde_pickle(2, schedule_type="discrete"), "'discrete' for ffhq"),
            (dyweight_pickle(weights, scales, schedule_type="discrete"), "'discrete' for ffhq"),
            (dyweight_pickle(weights, scales, extra=Pickled("os", "getcwd")), "refused"),
        ):
            write_pickle(content, self.folder / "a.pkl")
            with self.subTest(pattern), self.assertRaisesRegex(ValueError, pattern):
                self.imported(self.folder / "a.pkl")
        for text, pattern in (("x = 1", "no table"), ("FM_DATA = dict(step2=dict(timedeltas=f()))", "malformed")):
            (self.folder / "a.py").write_text(text)
            with self.subTest(text), self.assertRaisesRegex(ValueError, pattern):
                self.imported(self.folder / "a.py")
        self.assertFalse((self.folder / "exp").exists())


if __name__ == "__main__":
    unittest.main(warnings="ignore")
