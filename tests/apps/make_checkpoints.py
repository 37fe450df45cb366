"""Writes a tiny checkpoint of every family, as its original program saves it: python make_checkpoints.py FOLDER

Ends with 77 where this Python has no torch. The weights are those of tests/models' goldens.
"""

import sys
from pathlib import Path

try:
    import numpy  # noqa: F401
    import torch
except ImportError as error:
    print(f"{sys.executable} cannot import what the exporters need ({error})")
    sys.exit(77)

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "models"))
import latent_support  # noqa: E402
import pixel_support  # noqa: E402


def main() -> None:
    folder = Path(sys.argv[1])
    (folder / "edm.pkl").write_bytes(pixel_support.Golden("adm").pickle_bytes())
    torch.save(pixel_support.Golden("cm").weights(), folder / "consistency.pt")
    guided = pixel_support.Golden("guided")
    torch.save(guided.weights(), folder / "diffusion.pt")
    torch.save(guided.weights("classifier_"), folder / "classifier.pt")
    torch.save({"state_dict": latent_support.Golden("ldm").state}, folder / "ldm.ckpt")
    torch.save({"state_dict": latent_support.Golden("sd").state}, folder / "sd.ckpt")


if __name__ == "__main__":
    main()
