"""Plans of `sample` make the images of diffusers' schedulers with the same settings: the table of models/README.md.

python run.py test_diffusers_solvers.py SAMPLE              a case of each scheduler (all: test_goldens.cpp)
python run.py diffusers test_diffusers_solvers.py SAMPLE    and that the kept images are what diffusers makes now
"""

import importlib.util
import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from zoo_support import ROOT

# isort: split
from plan_runner import read_plan, run_plan

from contract import make_facts, write_model

sys.path.append(str(ROOT / "tests" / "golden" / "solvers"))
import golden_diffusers  # noqa: E402

SAMPLE = sys.argv.pop(1)
CASES = json.loads((ROOT / "tests" / "golden" / "solvers" / "diffusers.json").read_text())["cases"]
TOLERANCE = 1e-4


class Nothing(nn.Module):
    """The network of a model file of which only the facts are asked."""

    def forward(self, x: Tensor, sigma: Tensor, condition: Tensor | None = None) -> Tensor:
        return x


def is_flow(case):
    return case["prediction"] == "flow_prediction"


def difference(made, expected):
    return float(np.abs(np.subtract(made, expected)).max() / np.abs(expected).max())


class Solvers(unittest.TestCase):
    def test_plans_take_the_steps_of_diffusers(self):
        first = {(case["scheduler"], is_flow(case)): case for case in reversed(CASES)}
        with tempfile.TemporaryDirectory() as folder:
            for flow, sigma_max, noise in ((False, 80.0, None), (True, 1.0, {"kind": "flow", "shift": 3.0})):
                facts = make_facts(dataset_name="tiny", resolution=8, channels=3, sigma_min=0.001, sigma_max=sigma_max)
                write_model(Nothing(), facts | {"noise": noise}, Path(folder) / f"{flow}.ts")
            for case in first.values():
                with self.subTest(f"{case['scheduler']} {case['settings']}: {case['options']}"):
                    self.assertLess(difference(self.end(case, Path(folder)), case["end"]), TOLERANCE)

    def end(self, case, folder):
        flow, plan = is_flow(case), folder / "plan.json"
        options = {"unipc_variant" if name == "variant" else name: value for name, value in case["options"].items()}
        options |= {"model_path": folder / f"{flow}.ts", "sigmas": ",".join(map(repr, case["times"]))}
        command = [SAMPLE, *(f"--{name}={value}" for name, value in options.items()), "--explain", "--json"]
        plan.write_text(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        denoise = lambda x, level: golden_diffusers.denoised(x, level[:, None], flow)
        return run_plan(read_plan(plan), golden_diffusers.START, denoise)[0]

    @unittest.skipUnless(importlib.util.find_spec("diffusers"), "diffusers is not here")
    def test_diffusers_still_makes_these_images(self):
        for kept, made in zip(CASES, golden_diffusers.cases(), strict=True):
            with self.subTest(f"{kept['scheduler']} {kept['settings']} {kept['prediction']}"):
                self.assertEqual((kept["scheduler"], kept["options"]), (made["scheduler"], made["options"]))
                self.assertLess(difference(made["end"], kept["end"]), TOLERANCE)


if __name__ == "__main__":
    unittest.main(warnings="ignore")
