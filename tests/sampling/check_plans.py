"""Holds the states that `sample` wrote to its plans, run in NumPy on the closed mixtures: check_plans.py FOLDER

FOLDER/<case>/ holds plan.json, and images/ with images.npy and inters/*/<seed>.npy, all of class <case> mod 3.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "models" / "plans"))
from plan_runner import read_plan, run_plan  # noqa: E402

MIXTURES = ((0.1, 0.7, 0.25), (-0.2, 1.5, 0.5), (0.3, 0.4, 0.1))  # a, mu, s by class
TOLERANCE = 1e-4  # of a state's largest entry: the states are float32


def mixture(label):
    """D(x; sigma) of y ~ 1/2 N(a + mu, s^2) + 1/2 N(a - mu, s^2), and a list of the levels it was asked for."""
    a, mu, s = MIXTURES[label]
    calls = []

    def denoise(x, sigma):
        calls.extend(sigma)
        sigma = sigma.reshape(-1, 1, 1, 1)
        v = s**2 + sigma**2
        return a + (s**2 * (x - a) + sigma**2 * mu * np.tanh(mu * (x - a) / v)) / v

    return denoise, calls


def check(case):
    """The largest error of a case, relative to the largest entry of the state."""
    plan = read_plan(case / "plan.json")
    images = np.load(case / "images/images.npy")
    errors = []
    for number, path in enumerate(sorted((case / "images/inters").glob("*/*.npy"))):
        denoise, calls = mixture(int(case.name) % len(MIXTURES))
        states, expected = np.load(path), []
        run_plan(plan, states[:1].astype(np.float64) / plan["times"][0], denoise, inters=expected)
        expected = np.concatenate(expected)
        assert states.shape == expected.shape and len(plan["times"]) == len(states), f"{path}: {states.shape}"
        assert len(calls) == plan["evaluations"], (
            f"{case}: {len(calls)} evaluations, the plan says {plan['evaluations']}"
        )
        assert np.array_equal(images[number], states[-1]), f"{path}: the image is not the last state"
        errors += [abs(ours - theirs).max() / abs(theirs).max() for ours, theirs in zip(states, expected)]
    assert errors, f"{case}: no states"
    return max(errors)


def main():
    errors = {case: check(case) for case in sorted(Path(sys.argv[1]).iterdir())}
    wrong = [case for case, error in errors.items() if not error <= TOLERANCE]
    for case in wrong:
        print(f"{case.name} {read_plan(case / 'plan.json')['solver']}: off by {errors[case]:.1e}")
    print(f"{len(errors)} plans, the largest error {max(errors.values()):.1e}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
