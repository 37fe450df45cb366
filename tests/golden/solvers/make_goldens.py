#!/usr/bin/env python3
"""Runs the published solvers on closed-form denoisers and writes their numbers as JSON.

    make_goldens.py EPD_CHECKOUT DIFF_SAMPLER_CHECKOUT [--out FOLDER]

EPD_CHECKOUT: BeierZhu/EPD at 94c00d0; DIFF_SAMPLER_CHECKOUT: zju-pi/diff-sampler at 68d5ce4.
Both are imported, nothing of them is copied here. Needs torch and numpy; runs in float64 except where
a key says float32. The README beside this file describes the denoiser and every field.
"""

import argparse
import json
import os

import golden_baselines
import golden_harness
import golden_multistep
import golden_students
import golden_tables
import golden_training


def to_text(value, indent=0):
    """JSON with one line per option set, state or table."""
    compact = json.dumps(value)
    flat_dict = isinstance(value, dict) and not any(isinstance(v, (dict, list)) for v in value.values())
    flat_list = (
        isinstance(value, list)
        and not any(isinstance(v, dict) for v in value)
        and (len(compact) < 600 or not isinstance(value[0], list))
    )
    if not isinstance(value, (dict, list)) or len(compact) < 100 or flat_dict or flat_list:
        return compact
    pad, close = " " * (indent + 1), "\n" + " " * indent
    if isinstance(value, dict):
        return (
            "{\n"
            + ",\n".join(f"{pad}{json.dumps(k)}: {to_text(v, indent + 1)}" for k, v in value.items())
            + close
            + "}"
        )
    return "[\n" + ",\n".join(pad + to_text(v, indent + 1) for v in value) + close + "]"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("epd", help="checkout of BeierZhu/EPD")
    parser.add_argument("diff_sampler", help="checkout of zju-pi/diff-sampler")
    parser.add_argument("--out", default=os.path.dirname(os.path.abspath(__file__)))
    args = parser.parse_args()
    public = golden_harness.public
    public.ds = golden_harness.import_checkout(
        os.path.join(args.diff_sampler, "diff-solvers-main"), ["solver_utils", "solvers"]
    )
    names = ["solver_utils", "solvers", "training.networks", "training.loss", "models.networks_edm"]
    public.epd = golden_harness.import_checkout(args.epd, names)
    families = {
        "students": golden_students.students(),
        "baselines": golden_baselines.baselines(),
        "teachers": golden_baselines.teachers(),
        "unipc": golden_multistep.unipc(),
        "deis": golden_multistep.deis(),
        "schedules": golden_tables.schedules(),
        "predictors": golden_tables.predictors(args.epd),
        "training": golden_training.training(),
    }
    for name, content in families.items():
        content = content if isinstance(content, dict) else {"cases": content}
        path = os.path.join(args.out, name + ".json")
        with open(path, "w") as file:
            file.write(to_text(content) + "\n")
        print(f"{name}: {len(content['cases'])} cases, {os.path.getsize(path)} bytes")


if __name__ == "__main__":
    main()
