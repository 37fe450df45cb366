"""How fast KID of 2048 features is beside torch-fidelity's.

    python tests/bench/bench_kid.py [--fid build/bin/fid] [--images 5000]

The features are those of bench_frechet.py. `fid calc --metrics kid` tells its own seconds for the score; torch-fidelity
(the package must be there) gets the same features as float32, in which it multiplies them; `fid` does so in float64.
Both with --threads threads, in turn, --repeats times; the best counts. Prints a line of JSON.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from bench_frechet import ROOT, make_detector, make_images, run_fid


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fid", default=str(ROOT / "build/bin/fid"))
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    os.environ.update({name: str(options.threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")})
    import numpy
    import torch
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_detector(folder / "network.ts", sys.executable)
        make_images(folder, options.images)
        for name in ("generated", "real"):
            dest = folder / f"{name}_statistics.npz"
            run_fid(options, folder, "ref", "--data", folder / f"{name}.npz", "--dest", dest, "--save_features", "True")
        features = [
            torch.from_numpy(numpy.load(folder / f"{name}_statistics.npz")["features"])
            for name in ("generated", "real")
        ]
        ours, theirs = [], []
        for _ in range(options.repeats):
            start = time.perf_counter()
            expected = kid_features_to_metric(*features, verbose=False)[KEY_METRIC_KID_MEAN]
            theirs.append(time.perf_counter() - start)
            images, reference = folder / "generated.npz", folder / "real_statistics.npz"
            record = run_fid(options, folder, "calc", "--images", images, "--ref", reference, "--metrics", "kid")
            ours.append(record["seconds_scores"])
    print(
        json.dumps(
            {
                "images": options.images,
                "threads": options.threads,
                "torch_fidelity_seconds": round(min(theirs), 2),
                "fid_seconds": round(min(ours), 2),
                "ratio": round(min(theirs) / min(ours), 2),
                "relative_gap": abs(record["kid"]["mean"] - expected) / abs(expected),
            }
        )
    )


if __name__ == "__main__":
    main()
