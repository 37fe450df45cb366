"""Runs one test file, or ends with 77 (skipped) where this Python has no torch. Usage: python run.py test_NAME.py"""

import runpy
import sys
from pathlib import Path

try:
    import numpy  # noqa: F401
    import torch  # noqa: F401
except ImportError as error:
    print(f"skipped: {sys.executable} cannot import what the exporters need ({error})")
    sys.exit(77)

test = Path(__file__).resolve().parent / sys.argv[1]
sys.argv = [str(test), *sys.argv[2:]]
runpy.run_path(str(test), run_name="__main__")
