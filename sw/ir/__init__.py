"""The integer graph: the only contract between networks, golden model and hardware."""

from karui.sw.ir.bounds import (
    accumulator_range,
    agreement_range,
    butterfly_ranges,
    depthwise_rows,
    effective_weights,
    product_range,
    routing_sum_range,
    squared_length_range,
)
from karui.sw.ir.builder import GraphBuilder, with_storage
from karui.sw.ir.capsule_ops import Repeat, Routing, SquaredLength, Squash, single_fraction
from karui.sw.ir.complexity_op import Complexity, ComplexityTables, complexity_of
from karui.sw.ir.graph import Constant, Graph, Node, graphs_equal
from karui.sw.ir.infer import infer
from karui.sw.ir.ops import (
    Add,
    ArgMax,
    BinaryBases,
    ChannelShuffle,
    Concat,
    DepthwiseConv,
    DoubleRounding,
    Flatten,
    Gather,
    MatrixVector,
    MaxPool,
    MaxUnpool,
    Op,
    Requantize,
    SlidingWindow,
    SumPool,
    Threshold,
    WalshHadamard,
)
from karui.sw.ir.puppet_ops import EulerGenerator, GeneratedLayers, LowRankGenerator
from karui.sw.ir.recomputed_predictions import with_recomputed_predictions
from karui.sw.ir.serialize import load_graph, save_graph
from karui.sw.ir.storage import RAW, Huffman, Raw, Shared, Sparse, Storage
from karui.sw.ir.tensor import GraphError, Tensor
from karui.sw.ir.verify import verify

__all__ = [
    "Add",
    "ArgMax",
    "BinaryBases",
    "ChannelShuffle",
    "Complexity",
    "ComplexityTables",
    "Concat",
    "Constant",
    "DepthwiseConv",
    "DoubleRounding",
    "EulerGenerator",
    "Flatten",
    "Gather",
    "GeneratedLayers",
    "Graph",
    "GraphBuilder",
    "GraphError",
    "Huffman",
    "LowRankGenerator",
    "MatrixVector",
    "MaxPool",
    "MaxUnpool",
    "Node",
    "Op",
    "RAW",
    "Raw",
    "Repeat",
    "Requantize",
    "Shared",
    "Routing",
    "SlidingWindow",
    "Sparse",
    "Squash",
    "SquaredLength",
    "Storage",
    "SumPool",
    "Tensor",
    "Threshold",
    "WalshHadamard",
    "accumulator_range",
    "agreement_range",
    "butterfly_ranges",
    "complexity_of",
    "depthwise_rows",
    "effective_weights",
    "graphs_equal",
    "infer",
    "load_graph",
    "product_range",
    "routing_sum_range",
    "save_graph",
    "single_fraction",
    "squared_length_range",
    "verify",
    "with_recomputed_predictions",
    "with_storage",
]
