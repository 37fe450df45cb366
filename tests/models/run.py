"""Runs one test file, or ends with 77 (skipped) where this Python lacks what it needs.

python run.py test_NAME.py             needs torch and numpy
python run.py diffusers test_NAME.py   runs in the environment ~/.cache/epd/diffusers, which has diffusers too;
                                       with EPD_DIFFUSERS=1 it is made where it is missing (310 MB)
"""

import os
import runpy
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENVIRONMENT = Path(os.environ.get("EPD_CACHE", Path.home() / ".cache" / "epd")) / "diffusers"


def make_environment(packages: Path):
    """diffusers beside the torch and numpy of this Python."""
    venv.create(ENVIRONMENT, with_pip=True)
    python = ENVIRONMENT / "bin" / "python"
    site = next((ENVIRONMENT / "lib").glob("python*/site-packages"))
    (site / "torch.pth").write_text(f"{packages}\n")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "diffusers>=0.35", "transformers"], check=True)


try:
    import numpy
    import torch  # noqa: F401
except ImportError as error:
    print(f"skipped: {sys.executable} cannot import what the tests of models need ({error})")
    sys.exit(77)

arguments = sys.argv[1:]
if arguments[0] == "diffusers":
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists() and os.environ.get("EPD_DIFFUSERS"):
        make_environment(Path(numpy.__file__).parents[1])
    if not python.exists():
        print(f"skipped: no {ENVIRONMENT}; EPD_DIFFUSERS=1 makes it")
        sys.exit(77)
    os.execv(python, [str(python), str(HERE / arguments[1]), *arguments[2:]])
sys.argv = [str(HERE / arguments[0]), *arguments[1:]]
runpy.run_path(sys.argv[0], run_name="__main__")
