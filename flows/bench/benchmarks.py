"""The list of benchmarks."""

from karui.flows.bench.benchmark import Benchmark
from karui.flows.bench.finn_tfc import FINN_TFC
from karui.flows.bench.lfc_vectors import LFC_VECTORS, LFC_VECTORS_128

BENCHMARKS: tuple[Benchmark, ...] = (LFC_VECTORS, LFC_VECTORS_128, FINN_TFC)
