"""Values of independent programs that the metrics are held to: python make_goldens.py TORCH_FIDELITY PRDC

TORCH_FIDELITY and PRDC are source trees of toshas/torch-fidelity and clovaai/generative-evaluation-prdc; NumPy, SciPy
(< 1.18), scikit-learn, torch and tqdm must be there. Writes metrics.npz beside itself, and the statistics files of
several kinds that NumPy can write.
"""

import sys
from pathlib import Path

import numpy as np
import scipy.linalg

HERE = Path(__file__).resolve().parent
sys.path[:0] = sys.argv[1:3]
import torch  # noqa: E402
from prdc.prdc import compute_prdc  # noqa: E402
from torch_fidelity.metric_kid import kid_features_to_metric  # noqa: E402


def features(count: int, seed: int, mean: float) -> np.ndarray:
    """Correlated features of falling variance, as networks give them."""
    random = np.random.RandomState(seed)
    mixing = np.random.RandomState(1).standard_normal((12, 12))
    return (random.standard_normal((count, 12)) / np.arange(1, 13) @ mixing + mean).astype(np.float32)


def frechet(x: np.ndarray, y: np.ndarray) -> float:
    mu_x, mu_y = x.mean(0), y.mean(0)
    sigma_x, sigma_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(sigma_x @ sigma_y, disp=False)[0].real
    return ((mu_x - mu_y) ** 2).sum() + np.trace(sigma_x + sigma_y - 2 * root)


def exact_frechet(x: np.ndarray, y: np.ndarray) -> float:
    """From the singular values of the product of the centred features: exact where covariances are singular."""
    a = (x - x.mean(0)) / np.sqrt(len(x) - 1)
    b = (y - y.mean(0)) / np.sqrt(len(y) - 1)
    cross = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + (a**2).sum() + (b**2).sum() - 2 * cross


def statistics_files(x: np.ndarray) -> None:
    mu, sigma = x.mean(0), np.cov(x, rowvar=False)
    np.savez(HERE / "plain.npz", mu=mu, sigma=sigma)
    np.savez_compressed(HERE / "float32.npz", mu=mu.astype(np.float32), sigma=sigma.astype(np.float32))
    np.savez(HERE / "fortran.npz", mu=mu.astype(">f8"), sigma=np.asfortranarray(sigma), extra=np.arange(3))


def main() -> None:
    generated, real = features(80, 2, 0.2), features(60, 3, 0.0)
    x, y = generated.astype(np.float64), real.astype(np.float64)
    kid = {}
    for size in (20, 60):
        kid[size] = kid_features_to_metric(
            torch.from_numpy(x), torch.from_numpy(y), kid_subsets=10, kid_subset_size=size, rng_seed=2020, verbose=False
        )
    prdc = {k: compute_prdc(y, x, k) for k in (3, 5)}
    random = np.random.RandomState(2020)
    order = np.arange(60000)
    np.random.RandomState(7).shuffle(order)
    np.savez_compressed(
        HERE / "metrics.npz",
        generated=generated,
        real=real,
        frechet=frechet(x, y),
        frechet_singular=exact_frechet(x[:8], y[:5]),
        kid=np.array([list(kid[size].values()) for size in (20, 60)]),
        prdc=np.array([prdc[3]["precision"], prdc[3]["recall"], prdc[5]["density"], prdc[5]["coverage"]]),
        permutation=random.permutation(50),
        choice=random.choice(1000, 20, replace=False),
        subset=np.sort(order[:100]),
    )
    statistics_files(x)


if __name__ == "__main__":
    main()
