"""How fast KID of 2048 features is beside torch-fidelity's.

    python tests/bench/bench_kid.py [--fid build/bin/fid] [--images 5000]

The features are those of bench_frechet.py. `fid calc --metrics kid` tells its own seconds for the score; torch-fidelity
(the package must be there) gets the same features as float32, in which it multiplies them; `fid` does so in float64.
Both with --threads threads, in turn, --repeats times; the best counts. Prints a line of JSON.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

from bench_frechet import make_statistics, options_of, score


def main():
    options = options_of(__doc__, 5000)
    import numpy
    import torch
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = make_statistics(options, folder, sys.executable, "--save_features", "True")
        features = [torch.from_numpy(numpy.load(file)["features"]) for file in files]
        ours, theirs = [], []
        for _ in range(options.repeats):
            start = time.perf_counter()
            expected = kid_features_to_metric(*features, verbose=False)[KEY_METRIC_KID_MEAN]
            theirs.append(time.perf_counter() - start)
            record = score(options, folder, "--metrics", "kid")
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
