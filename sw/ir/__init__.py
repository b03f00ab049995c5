"""The integer graph: the only contract between networks, golden model and hardware."""

from karui.sw.ir.bounds import accumulator_range, butterfly_ranges, depthwise_rows, effective_weights, product_range
from karui.sw.ir.builder import GraphBuilder, with_storage
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
from karui.sw.ir.serialize import load_graph, save_graph
from karui.sw.ir.storage import RAW, Huffman, Raw, Shared, Sparse, Storage
from karui.sw.ir.tensor import GraphError, Tensor
from karui.sw.ir.verify import verify

__all__ = [
    "Add",
    "ArgMax",
    "BinaryBases",
    "ChannelShuffle",
    "Concat",
    "Constant",
    "DepthwiseConv",
    "DoubleRounding",
    "Flatten",
    "Gather",
    "Graph",
    "GraphBuilder",
    "GraphError",
    "Huffman",
    "MatrixVector",
    "MaxPool",
    "MaxUnpool",
    "Node",
    "Op",
    "RAW",
    "Raw",
    "Requantize",
    "Shared",
    "SlidingWindow",
    "Sparse",
    "Storage",
    "SumPool",
    "Tensor",
    "Threshold",
    "WalshHadamard",
    "accumulator_range",
    "butterfly_ranges",
    "depthwise_rows",
    "effective_weights",
    "graphs_equal",
    "infer",
    "load_graph",
    "product_range",
    "save_graph",
    "verify",
    "with_storage",
]
