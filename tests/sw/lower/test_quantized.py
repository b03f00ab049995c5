"""Quantized networks with branches: golden model equal to network on every image, to the last bit."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from karui.sw.ir import (
    Add,
    ChannelShuffle,
    Concat,
    Constant,
    DepthwiseConv,
    Graph,
    MatrixVector,
    MaxPool,
    Op,
    Requantize,
    SlidingWindow,
    SumPool,
    Threshold,
)
from karui.sw.lower.agreement import compare_with_golden
from karui.sw.lower.from_torch import Lowered, lower
from karui.sw.lower.requantize_from_ladder import ladders
from karui.sw.models.blocks import Branches, Convolution, Residual, Stage
from karui.sw.models.inception import InceptionConfig, InceptionModule, build_inception
from karui.sw.models.mobilenet import (
    BottleneckStage,
    MobileNetConfig,
    MobileNetV2Config,
    build_mobilenet,
    build_mobilenet_v2,
)
from karui.sw.models.resnet import ResNetConfig, build_resnet
from karui.sw.models.shufflenet import ShuffleNetConfig, build_shufflenet
from karui.sw.models.squeezenet import FireStage, SqueezeNetConfig, build_squeezenet
from karui.sw.models.xception import XceptionConfig, build_xception
from karui.sw.nn import (
    BinaryActivation,
    BinaryLinear,
    GlobalAveragePool,
    LogitScale,
    Precision,
    QuantConv2d,
    QuantIdentity,
    QuantLinear,
    QuantReLU,
)
from karui.sw.nn.quant_weight import QuantWeightLayer
from karui.sw.numerics import Rounding, signed

SHAPE = (3, 8, 8)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Networks as small as these compute faster on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def trained_like(model: nn.Module, seed: int, shape: tuple[int, ...] = SHAPE) -> nn.Module:
    """Batch norms with the statistics of random images and gains of both signs, biases of the size of the sums."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = 1.0
            module.weight.data.copy_(torch.randn(module.num_features, generator=generator))
            module.bias.data.copy_(torch.randn(module.num_features, generator=generator) * 0.5)
            module.weight.data[0] = 0.0
        if isinstance(module, QuantWeightLayer) and module.bias is not None:
            module.bias.data.copy_(torch.randn(len(module.bias), generator=generator))
    with torch.no_grad():
        model.train()(torch.randint(0, 256, (64, *shape), generator=generator).float())
    return model.eval()


def check(model: nn.Module, seed: int, *, images: int = 61, float_type: torch.dtype | None = None) -> Lowered:
    lowered = lower(model, SHAPE, float_type=float_type)
    frames = np.random.default_rng(seed).integers(0, 256, (images, *SHAPE), dtype=np.uint8)
    # Smooth images reach other values than noise: their windows have large sums.
    frames[::2] = frames[::2, :, :1, :1] // 2 + frames[::2] // 2
    # The last chunk is one image, for which torch may take other paths.
    agreement = compare_with_golden(model, lowered, frames, chunk=30)
    assert (agreement.images, agreement.mismatches) == (images, 0)
    assert np.array_equal(agreement.model_classes, agreement.golden_classes)
    return lowered


def count(graph: Graph, op: type[Op]) -> int:
    return sum(isinstance(node.op, op) for node in graph.nodes)


P8, P4 = (Precision(weight_bits=bits, activation_bits=bits) for bits in (8, 4))
P2 = Precision(weight_bits=2, activation_bits=2)


def block(*layers: nn.Module, channels: int, size: int = 8, bits: int = 4) -> nn.Module:
    """A stem of 6 channels, some layers, a classifier."""
    return nn.Sequential(
        QuantConv2d(3, 6, 3, padding=1, weight_bits=8), nn.BatchNorm2d(6), QuantReLU(bits=bits),
        *layers,
        nn.Flatten(), QuantLinear(channels * size * size, 5, weight_bits=bits),
    )  # fmt: skip


def conv(
    in_channels: int, out_channels: int, kernel_size: int = 1, *, bits: int = 4, **options: int
) -> list[nn.Module]:
    layer = QuantConv2d(in_channels, out_channels, kernel_size, weight_bits=bits, **options)
    return [layer, nn.BatchNorm2d(out_channels), QuantReLU(bits=bits)]


class Fan(Branches):
    """Layers, then branches behind them."""

    def __init__(self, stem: Sequence[nn.Module], *branches: Sequence[nn.Module]) -> None:
        super().__init__(*branches)
        self.stem = nn.Sequential(*stem)

    def forward(self, feature_map: Tensor) -> Tensor:
        return super().forward(self.stem(feature_map))


def biased(in_channels: int, out_channels: int, activation: nn.Module) -> list[nn.Module]:
    return [QuantConv2d(in_channels, out_channels, 3, padding=1, bias=True, weight_bits=4), activation]


BLOCKS: dict[str, tuple[Callable[[], nn.Module], dict[type[Op], int]]] = {
    "pointwise": (lambda: block(*conv(6, 4), channels=4), {SlidingWindow: 1, MatrixVector: 3}),
    "strided pointwise": (lambda: block(*conv(6, 4, 1, stride=2), channels=4, size=4), {SlidingWindow: 2}),
    "stride larger than kernel": (lambda: block(*conv(6, 4, 2, stride=3), channels=4, size=3), {SlidingWindow: 2}),
    "depthwise": (
        lambda: block(*conv(6, 6, 3, padding=1, groups=6, stride=2), channels=6, size=4),
        {DepthwiseConv: 1, SlidingWindow: 1},
    ),
    "depthwise multiplier": (
        lambda: block(*conv(6, 12, 3, padding=1, groups=6), channels=12),
        {DepthwiseConv: 0, SlidingWindow: 2},
    ),
    "grouped": (lambda: block(*conv(6, 4, 3, padding=1, groups=2), channels=4), {SlidingWindow: 2, MatrixVector: 3}),
    "grouped pointwise": (lambda: block(*conv(6, 9, groups=3), channels=9), {SlidingWindow: 1}),
    "shuffle absorbed": (
        lambda: block(
            *conv(6, 6, groups=3), nn.ChannelShuffle(3), *conv(6, 6, 3, groups=6), *conv(6, 4), channels=4, size=6
        ),
        {ChannelShuffle: 0},
    ),
    "shuffle": (
        lambda: block(*conv(6, 6, groups=3), nn.ChannelShuffle(3), *conv(6, 4, groups=2), channels=4),
        {ChannelShuffle: 1},
    ),
    "max pool": (lambda: block(nn.MaxPool2d(3, 2, padding=1), channels=6, size=4), {MaxPool: 1}),
    "max pool before the activation": (
        lambda: block(
            QuantConv2d(6, 4, 1, weight_bits=4), nn.MaxPool2d(2), QuantReLU(bits=4, limit=8.0), channels=4, size=4
        ),
        {MaxPool: 1, Requantize: 2},
    ),
    "average pool": (
        lambda: block(nn.AvgPool2d(3, 2, padding=1), QuantReLU(bits=4), channels=6, size=4),
        {SumPool: 1},
    ),
    "average pool with ties": (
        lambda: block(nn.AvgPool2d(2), nn.Dropout(0.5), QuantIdentity(bits=3), channels=6, size=4),
        {SumPool: 1},
    ),
    "global average pool": (
        lambda: block(GlobalAveragePool(), QuantReLU(bits=8), channels=6, size=1),
        {SumPool: 1},
    ),
    "addition of different grids": (
        lambda: block(Residual([*conv(6, 6)[:2], QuantIdentity(bits=6, limit=1.0)], QuantReLU(bits=4)), channels=6),
        {Add: 1},
    ),
    "concatenation": (lambda: block(Branches(conv(6, 3), conv(6, 4, 3, padding=1), []), channels=13), {Concat: 1}),
    "concatenation of differing formats": (
        lambda: block(
            Branches([*conv(6, 3)[:2], QuantIdentity(bits=6)], [*conv(6, 2)[:2], QuantReLU(bits=3)], []), channels=11
        ),
        {Concat: 1},
    ),
    "concatenation of vectors": (
        lambda: block(
            Branches([*conv(6, 2), nn.Flatten()], [nn.MaxPool2d(2), nn.Flatten()]), channels=128 + 96, size=1
        ),
        {Concat: 1},
    ),
    "biases": (
        lambda: block(*biased(6, 5, QuantReLU(bits=4)), *biased(5, 4, QuantIdentity(bits=5)), channels=4),
        {Threshold: 0},
    ),
    "two activations of one product": (
        lambda: block(Fan(conv(6, 4)[:2], [QuantReLU(bits=4)], [QuantIdentity(bits=3, limit=1.0)]), channels=8),
        {MatrixVector: 4, Concat: 1},
    ),
    "two activations of one map": (
        lambda: block(Branches([QuantReLU(bits=3)], [QuantIdentity(bits=3, limit=1.0)]), channels=12),
        # Two more bring them to one format.
        {Requantize: 5},
    ),
    "activation on activation": (
        lambda: block(QuantIdentity(bits=3), QuantReLU(bits=6, limit=1.0), channels=6),
        {Requantize: 3},
    ),
    "hidden layer": (
        lambda: nn.Sequential(
            block(channels=6)[:-1],
            QuantLinear(384, 9, weight_bits=4, bias=False),
            nn.BatchNorm1d(9),
            QuantReLU(bits=4),
            QuantLinear(9, 5, weight_bits=4),
        ),
        {MatrixVector: 3},
    ),
    "few bits": (lambda: block(*conv(6, 4, bits=2), *conv(4, 4, bits=3), channels=4, bits=2), {Threshold: 3}),
    "binary layers behind": (
        lambda: nn.Sequential(
            block(channels=6)[:-1],
            BinaryLinear(384, 9),
            nn.BatchNorm1d(9),
            BinaryActivation(),
            BinaryLinear(9, 5),
            LogitScale(5, initial_scale=0.2),
        ),
        {Threshold: 1},
    ),
}


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("seed", range(2))
def test_each_kind_of_block(kind: str, seed: int) -> None:
    build, expected = BLOCKS[kind]
    torch.manual_seed(seed)
    graph = check(trained_like(build(), seed), seed).graph
    assert {op: count(graph, op) for op in expected} == expected


SMALL_STEM = (Convolution(channels=6, pool=True),)
FAMILIES: dict[str, Callable[[Precision], nn.Module]] = {
    "mobilenet": lambda p: build_mobilenet(
        MobileNetConfig(
            image=SHAPE,
            classes=5,
            stem=6,
            stem_stride=1,
            stages=(Stage(channels=8), Stage(channels=12, stride=2)),
            precision=p,
        )
    ),
    "mobilenet-v2": lambda p: build_mobilenet_v2(
        MobileNetV2Config(
            image=SHAPE,
            classes=5,
            stem=8,
            stem_stride=1,
            head=16,
            precision=p,
            stages=(
                BottleneckStage(channels=8, expansion=1),
                BottleneckStage(channels=16, stride=2, repeat=2, expansion=2),
            ),
        )
    ),
    "squeezenet": lambda p: build_squeezenet(
        SqueezeNetConfig(
            image=SHAPE,
            classes=5,
            stem=SMALL_STEM,
            padded=True,
            batch_norm=True,
            linear_classifier=True,
            precision=p,
            stages=(
                FireStage(squeeze=4, expand=6, repeat=2, pool=True),
                FireStage(squeeze=4, expand=8, repeat=1, pool=False),
            ),
        )
    ),
    "shufflenet": lambda p: build_shufflenet(
        ShuffleNetConfig(
            image=SHAPE,
            classes=5,
            groups=2,
            stem=(Convolution(channels=8),),
            precision=p,
            stages=(Stage(channels=16, stride=2, repeat=2),),
        )
    ),
    "xception": lambda p: build_xception(
        XceptionConfig(
            image=SHAPE,
            classes=5,
            stem=(Convolution(channels=6),),
            entry=(8, 12),
            middle_blocks=1,
            exit=None,
            tail=(16,),
            precision=p,
        )
    ),
    "inception": lambda p: build_inception(
        InceptionConfig(
            image=SHAPE,
            classes=5,
            stem=SMALL_STEM,
            precision=p,
            modules=(
                InceptionModule(conv1=4, reduce3=4, conv3=6, reduce5=2, conv5=4, pool_projection=4, pool=True),
                InceptionModule(conv1=4, reduce3=4, conv3=6, reduce5=2, conv5=4, pool_projection=4),
            ),
        )
    ),
    "resnet": lambda p: build_resnet(
        ResNetConfig(
            image=SHAPE,
            classes=5,
            stem=SMALL_STEM,
            stages=(Stage(channels=3), Stage(channels=4, stride=2, repeat=2)),
            precision=p,
        )
    ),
}


@pytest.mark.parametrize(
    ("family", "precision"),
    [(family, precision) for family in FAMILIES for precision in (P8, P4)]
    + [("mobilenet", P2), ("shufflenet", P2), ("xception", replace(P4, per_channel=False, edge_bits=None))],
)
def test_each_family(family: str, precision: Precision) -> None:
    torch.manual_seed(3)
    graph = check(trained_like(FAMILIES[family](precision), 3), 3).graph
    products = [node for node in graph.nodes if isinstance(node.op, MatrixVector | DepthwiseConv)]
    # Negated rows cost no bit of storage.
    assert max(graph.constants[node.inputs[1]].number_format.bits for node in products) <= 8


def test_float64_is_chosen_where_the_steps_of_float32_are_on_no_line() -> None:
    torch.manual_seed(0)
    classifier = [GlobalAveragePool(), QuantReLU(bits=8), QuantLinear(32, 5, weight_bits=8)]
    model = trained_like(nn.Sequential(*conv(3, 32, 5, bits=8), *classifier), 0)
    single = check(model, 0, float_type=torch.float32)
    assert (single.float_type, ladders(single.graph)) == (torch.float32, ("conv1.quantize",))
    double = check(model, 0)
    assert (double.float_type, ladders(double.graph)) == (torch.float64, ())
    # The mean of a 4x4 map has ties to even.
    roundings = [node.op.rounding for node in double.graph.nodes if isinstance(node.op, Requantize)]
    assert roundings == [Rounding.FLOOR, Rounding.HALF_EVEN]


def test_sums_beyond_float32_are_lowered_in_float64() -> None:
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            quantize = QuantIdentity(bits=8, limit=2.0**18)
            self.layers = nn.Sequential(nn.Flatten(), QuantLinear(192, 4, weight_bits=8), quantize)
            self.last = QuantLinear(4, 5, weight_bits=4)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.layers(x))

    model = Wide()
    model.layers[1].weight.data.copy_(torch.randint(60, 128, (4, 192)))
    model.layers[1].bias.data.copy_(torch.full((4,), float(1 << 24)))
    assert check(model, 0).float_type == torch.float64
    with pytest.raises(ValueError, match=r"sums reach [0-9]+, which float32 does not hold exactly: lower in float64"):
        lower(model, SHAPE, float_type=torch.float32)


@pytest.mark.parametrize("operand", ["multiplier", "offset", "weights"])
def test_a_wrong_constant_is_seen(operand: str) -> None:
    torch.manual_seed(1)
    model = trained_like(FAMILIES["resnet"](P4), 1)
    lowered = check(model, 1)
    name = next(node.name for node in lowered.graph.nodes if isinstance(node.op, MatrixVector))
    name = f"{name}.weights" if operand == "weights" else f"{name}.quantize.{operand}"
    constants = dict(lowered.graph.constants)
    values = constants[name].values.copy()
    values.flat[-1] += {"weights": 3, "multiplier": values.flat[-1] // 8, "offset": 1 << 24}[operand]
    constants[name] = Constant(values=values, number_format=signed(48))
    wrong = replace(lowered, graph=replace(lowered.graph, constants=constants))
    images = np.random.default_rng(0).integers(0, 256, (60, *SHAPE), dtype=np.uint8)
    assert compare_with_golden(model, wrong, images).mismatches > 0
