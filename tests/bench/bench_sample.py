"""How fast `sample` is beside a plain Python loop over the same TorchScript file.

    python tests/bench/bench_sample.py [--sample build/bin/sample] [--model models/demo/denoiser.ts]

Both draw the same seeds with the same Heun steps and threads, and write PNGs: the Python side batch by batch with
Pillow, as published samplers do. Each side runs `--repeats` times in turn; the best counts. Loading is not counted.
Prints a line of JSON; `largest_difference` is that of any pixel, and should be 0 or 1.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]


def latents_and_labels(seeds, facts):
    latents, labels = [], []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        latents.append(torch.randn(facts["channels"], facts["resolution"], facts["resolution"], generator=generator))
        if facts["label_dim"]:
            labels.append(torch.randint(facts["label_dim"], (1,), generator=generator))
    one_hot = torch.nn.functional.one_hot(torch.cat(labels), facts["label_dim"]).float() if labels else None
    return torch.stack(latents), one_hot


def polynomial_times(num_steps, low, high, rho=7):
    ramp = torch.linspace(0, 1, num_steps, dtype=torch.float64)
    return ((high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho).tolist()


def heun(model, x, labels, times):
    def direction(state, t):
        return (state - model(state, torch.full((len(state),), t), labels)) / t

    x = x * times[0]
    for t_cur, t_next in zip(times[:-1], times[1:]):
        d_cur = direction(x, t_cur)
        d_next = direction(x + (t_next - t_cur) * d_cur, t_next)
        x = x + (t_next - t_cur) * (d_cur + d_next) / 2
    return x


def load(path):
    """The model file and its facts."""
    extra = {"facts.json": ""}
    model = torch.jit.load(path, _extra_files=extra).eval()
    return model, json.loads(extra["facts.json"])


def run_python(options, folder, model, facts):
    times = polynomial_times(options.num_steps, facts["sigma_min"], facts["sigma_max"])
    start = time.perf_counter()
    with torch.no_grad():
        for first in range(0, options.images, options.batch):
            seeds = range(first, min(first + options.batch, options.images))
            x, labels = latents_and_labels(seeds, facts)
            images = heun(model, x, labels, times)
            pixels = (images * 127.5 + 128).clip(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
            for seed, image in zip(seeds, pixels):
                Image.fromarray(image).save(folder / f"{seed:06d}.png")
    return time.perf_counter() - start


def run_sample(options, folder):
    command = [
        options.sample,
        "--device",
        "cpu",
        "--quiet",
        "--json",
        "--model_path",
        options.model,
        "--solver",
        "heun",
        "--num_steps",
        str(options.num_steps),
        "--seeds",
        f"0-{options.images - 1}",
        "--batch",
        str(options.batch),
        "--subdirs",
        "False",
        "--outdir",
        str(folder),
        *options.more,
    ]
    environment = dict(os.environ, OMP_NUM_THREADS=str(options.threads))
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)["seconds"]


def largest_difference(a, b):
    pixels = [
        numpy.stack([numpy.asarray(Image.open(path)).astype(int) for path in sorted(folder.glob("*.png"))])
        for folder in (a, b)
    ]
    return int(abs(pixels[0] - pixels[1]).max())


def option_parser(description, threads):
    """The options of all benchmarks of sampling."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", default=str(ROOT / "build/bin/sample"))
    parser.add_argument("--model", default=str(ROOT / "models/demo/denoiser.ts"))
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--num_steps", type=int, default=4)
    parser.add_argument("--threads", type=int, default=threads)
    parser.add_argument("--repeats", type=int, default=3)
    return parser


def main():
    parser = option_parser(__doc__, threads=2)
    parser.add_argument("more", nargs="*", help="further options of sample, behind --")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    python, program = [], []
    with tempfile.TemporaryDirectory() as temporary:
        for repeat in range(options.repeats):
            folders = Path(temporary, f"python-{repeat}"), Path(temporary, f"sample-{repeat}")
            folders[0].mkdir()
            python.append(run_python(options, folders[0], *load(options.model)))
            program.append(run_sample(options, folders[1]))
        difference = largest_difference(*folders)
    print(
        json.dumps(
            {
                "images": options.images,
                "threads": options.threads,
                "python_seconds": round(min(python), 3),
                "sample_seconds": round(min(program), 3),
                "ratio": round(min(python) / min(program), 3),
                "largest_difference": difference,
            }
        )
    )


if __name__ == "__main__":
    main()
