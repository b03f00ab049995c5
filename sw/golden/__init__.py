"""The golden model, in PyTorch integers."""

from karui.sw.golden.interpreter import evaluate, trace
from karui.sw.golden.kernels import compute

__all__ = ["compute", "evaluate", "trace"]
