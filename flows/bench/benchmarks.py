"""The list of benchmarks."""

from karui.flows.bench.bad_input import BAD_INPUT
from karui.flows.bench.benchmark import Benchmark
from karui.flows.bench.binary_storage import BINARY_STORAGE
from karui.flows.bench.bit_plane_cost import BIT_PLANE_COST
from karui.flows.bench.capsule_arithmetic import CAPSULE_ARITHMETIC
from karui.flows.bench.capsule_compression import CAPSULE_COMPRESSION
from karui.flows.bench.capsule_routing import CAPSULE_ROUTING
from karui.flows.bench.capsule_sharing import CAPSULE_SHARING, CAPSULE_SHARING_CIFAR10
from karui.flows.bench.cnv import CNV
from karui.flows.bench.coding_speed import CODING_SPEED
from karui.flows.bench.complexity import COMPLEXITY
from karui.flows.bench.corruption import CORRUPTION
from karui.flows.bench.decomposed_mnist import DECOMPOSED_MNIST
from karui.flows.bench.decomposed_mnist_rtl import DECOMPOSED_MNIST_RTL
from karui.flows.bench.decomposed_networks import DECOMPOSED_NETWORKS
from karui.flows.bench.decomposition_error import DECOMPOSITION_ERROR
from karui.flows.bench.decomposition_ptq import DECOMPOSITION_PTQ
from karui.flows.bench.decomposition_size import DECOMPOSITION_SIZE
from karui.flows.bench.deep_fried_rtl import DEEP_FRIED_RTL
from karui.flows.bench.deep_fried_table import DEEP_FRIED_TABLE
from karui.flows.bench.estimate import ESTIMATE
from karui.flows.bench.fastfood_cost import FASTFOOD_COST
from karui.flows.bench.fastfood_speed import FASTFOOD_SPEED
from karui.flows.bench.finn_tfc import FINN_TFC
from karui.flows.bench.huffman_decoder import HUFFMAN_DECODER
from karui.flows.bench.lenet_compression import LENET_COMPRESSION
from karui.flows.bench.lenet_rtl import LENET_RTL
from karui.flows.bench.lfc_vectors import LFC_VECTORS, LFC_VECTORS_128
from karui.flows.bench.light_accuracy import LIGHT_ACCURACY
from karui.flows.bench.light_corners import LIGHT_CORNERS
from karui.flows.bench.light_counts import LIGHT_COUNTS
from karui.flows.bench.light_family import LIGHT_FAMILY
from karui.flows.bench.limited_precision import LIMITED_PRECISION
from karui.flows.bench.mobilenet_fit import MOBILENET_FIT
from karui.flows.bench.onnx_integer import ONNX_INTEGER
from karui.flows.bench.popcount_speed import POPCOUNT_SPEED
from karui.flows.bench.puppet_generation import PUPPET_GENERATION
from karui.flows.bench.puppet_hardware import PUPPET_HARDWARE, PUPPET_HARDWARE_CONTINUOUS
from karui.flows.bench.puppet_table import PUPPET_TABLE
from karui.flows.bench.separable_cost import SEPARABLE_COST
from karui.flows.bench.sfc_timing import SFC_TIMING
from karui.flows.bench.simulation_speed import SIMULATION_SPEED
from karui.flows.bench.sparse_engine import SPARSE_ENGINE
from karui.flows.bench.storage_choice import STORAGE_CHOICE
from karui.flows.bench.tflite_conv import TFLITE_CONV
from karui.flows.bench.vector_sharing import VECTOR_SHARING
from karui.flows.bench.walsh_hadamard import WALSH_HADAMARD

BENCHMARKS: tuple[Benchmark, ...] = (
    LFC_VECTORS,
    LFC_VECTORS_128,
    FINN_TFC,
    CNV,
    SFC_TIMING,
    CORRUPTION,
    BAD_INPUT,
    ESTIMATE,
    SIMULATION_SPEED,
    TFLITE_CONV,
    LIGHT_COUNTS,
    ONNX_INTEGER,
    LIGHT_FAMILY,
    SEPARABLE_COST,
    LIGHT_ACCURACY,
    MOBILENET_FIT,
    LIGHT_CORNERS,
    LIMITED_PRECISION,
    LENET_COMPRESSION,
    VECTOR_SHARING,
    CODING_SPEED,
    HUFFMAN_DECODER,
    SPARSE_ENGINE,
    LENET_RTL,
    FASTFOOD_SPEED,
    DEEP_FRIED_TABLE,
    DEEP_FRIED_RTL,
    BINARY_STORAGE,
    STORAGE_CHOICE,
    DECOMPOSITION_ERROR,
    DECOMPOSED_MNIST,
    DECOMPOSED_MNIST_RTL,
    DECOMPOSED_NETWORKS,
    DECOMPOSITION_PTQ,
    DECOMPOSITION_SIZE,
    POPCOUNT_SPEED,
    WALSH_HADAMARD,
    FASTFOOD_COST,
    BIT_PLANE_COST,
    CAPSULE_SHARING,
    CAPSULE_SHARING_CIFAR10,
    CAPSULE_ARITHMETIC,
    CAPSULE_ROUTING,
    CAPSULE_COMPRESSION,
    COMPLEXITY,
    PUPPET_TABLE,
    PUPPET_GENERATION,
    PUPPET_HARDWARE,
    PUPPET_HARDWARE_CONTINUOUS,
)
