"""The light architectures in small sizes: shapes, tracing, values on their grids, refusals."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from torch import Tensor, fx, nn

from karui.sw.models import inception, mobilenet, resnet, shufflenet, squeezenet, xception
from karui.sw.models.blocks import Blocks, Branches, Convolution, Residual, Stage
from karui.sw.models.build import LightConfig, build_model, family_of
from karui.sw.models.catalog import NETWORKS, SMALL
from karui.sw.nn.precision import Precision
from karui.sw.nn.quant_activation import QuantActivation, QuantIdentity, QuantReLU
from karui.sw.nn.quant_conv import QuantConv2d
from karui.sw.nn.quant_weight import QuantWeightLayer
from karui.sw.train.recipe import model_config

GREY, COLOUR = (1, 28, 28), (3, 32, 32)

BITS = [Precision(weight_bits=8, activation_bits=8), Precision(weight_bits=4, activation_bits=4)]


class LayerTracer(fx.Tracer):
    """Traces down to karui's layers and torch's."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        inside = m.__module__.startswith("karui.sw.nn.")
        return inside or super().is_leaf_module(m, module_qualified_name)


def pixels(image: tuple[int, int, int], count: int = 2) -> Tensor:
    return torch.randint(0, 256, (count, *image), generator=torch.Generator().manual_seed(1)).float()


@pytest.fixture(params=SMALL, name="config")
def small_config(request: pytest.FixtureRequest) -> LightConfig:
    return SMALL[request.param]


@pytest.mark.parametrize("image", [GREY, COLOUR], ids=str)
def test_small_versions_classify_both_image_sizes(config: LightConfig, image: tuple[int, int, int]) -> None:
    model = build_model(replace(config, image=image)).eval()
    assert model(pixels(image)).shape == (2, 10)
    assert 80_000 < sum(parameter.numel() for parameter in model.parameters()) < 300_000


@pytest.mark.parametrize("precision", BITS, ids=["8", "4"])
def test_trace_computes_what_the_model_computes(config: LightConfig, precision: Precision) -> None:
    model = build_model(replace(config, precision=precision)).eval()
    traced = fx.GraphModule(model, LayerTracer().trace(model))
    assert torch.equal(traced(pixels(GREY)), model(pixels(GREY)))


def test_every_layer_with_weights_takes_integers(config: LightConfig) -> None:
    """Whatever a convolution, an addition or an average gives is requantized before the next layer multiplies it."""
    torch.manual_seed(1)
    model = build_model(replace(config, precision=BITS[1]))
    with torch.no_grad():
        model(pixels(GREY))
    model.eval()
    graph = LayerTracer().trace(model)
    values: dict[fx.Node, Tensor] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Tensor:
            values[n] = super().run_node(n)
            return values[n]

    with torch.no_grad():
        Recorder(fx.GraphModule(model, graph)).run(pixels(GREY))
    seen = 0
    for node in graph.nodes:
        if node.op == "call_module" and isinstance(model.get_submodule(str(node.target)), QuantWeightLayer):
            fraction = 0 if node.args[0].op == "placeholder" else fraction_of(model, node.args[0])
            steps = torch.ldexp(values[node.args[0]], torch.tensor(fraction))
            assert torch.equal(steps, steps.round())
            assert len(steps.unique()) > 2
            seen += 1
    assert seen == sum(isinstance(module, QuantWeightLayer) for module in model.modules())


def fraction_of(model: nn.Module, node: fx.Node) -> int:
    """Fraction of a value, from the activation that made it; pools, shuffles and concatenations keep it."""
    if node.op == "call_module":
        module = model.get_submodule(str(node.target))
        if isinstance(module, QuantActivation):
            return module.fraction
        assert isinstance(module, nn.MaxPool2d | nn.ChannelShuffle), f"{node} ({module}) is not requantized"
        return fraction_of(model, node.args[0])  # type: ignore[arg-type]
    assert node.target is torch.cat, f"{node} is not requantized"
    formats = {activation_of(model, branch) for branch in node.args[0]}  # type: ignore[union-attr]
    assert len(formats) == 1, f"{node} joins {formats}"
    return formats.pop()[1]


def activation_of(model: nn.Module, node: fx.Node) -> tuple[type[nn.Module], int, int | None]:
    while not isinstance(module := model.get_submodule(str(node.target)), QuantActivation):
        node = node.args[0]  # type: ignore[assignment]
    return type(module), module.fraction, module.bits


@pytest.mark.parametrize("precision", BITS, ids=["8", "4"])
def test_both_operands_of_an_addition_have_one_step(config: LightConfig, precision: Precision) -> None:
    model = build_model(replace(config, precision=precision))
    graph = LayerTracer().trace(model)
    additions = [node for node in graph.nodes if node.op == "call_function" and node.target is not torch.cat]
    for node in additions:
        fractions = {fraction_of(model, operand) for operand in node.args}
        assert len(fractions) == 1
        (user,) = node.users
        assert isinstance(model.get_submodule(str(user.target)), QuantActivation)
    assert len(additions) == sum(isinstance(module, Residual) for module in model.modules())


def test_edge_layers_keep_eight_bits(config: LightConfig) -> None:
    model = build_model(replace(config, precision=Precision(weight_bits=3, activation_bits=3)))
    bits = [layer.weight_bits for layer in model.modules() if isinstance(layer, QuantWeightLayer)]
    assert bits[0] == bits[-1] == 8
    assert set(bits[1:-1]) == {3}


def test_gradients_reach_every_parameter(config: LightConfig) -> None:
    torch.manual_seed(1)
    model = build_model(replace(config, precision=BITS[0]))
    model(pixels(GREY)).square().sum().backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert without == []


@pytest.mark.parametrize("name", NETWORKS)
def test_configurations_survive_their_written_form(name: str) -> None:
    config = replace(NETWORKS[name], classes=7)
    if name in SMALL:
        config = replace(config, precision=BITS[1])
    written = json.loads(json.dumps({"family": family_of(config), **asdict(config)}))
    assert model_config(written, name) == config


def test_xception_has_no_batch_norm_between_depthwise_and_pointwise() -> None:
    layers = xception.separable(Blocks(), 4, 6)
    assert [type(layer) for layer in layers] == [QuantConv2d, QuantIdentity, QuantConv2d, nn.BatchNorm2d]


def test_mobilenet_v2_narrows_without_nonlinearity() -> None:
    model = build_model(SMALL["mobilenet-v2-small"])
    narrow = next(layer for layer in model.modules() if isinstance(layer, Residual)).body
    assert isinstance(narrow[-1], QuantIdentity)
    assert [type(layer) for layer in narrow].count(QuantReLU) == 2


def test_shufflenet_shuffles_only_groups() -> None:
    grouped = build_model(SMALL["shufflenet-small"])
    assert {layer.groups for layer in grouped.modules() if isinstance(layer, nn.ChannelShuffle)} == {3}
    plain = build_model(shufflenet.ShuffleNetConfig(groups=1, image=GREY, stem=shufflenet.SMALL_STEM))
    assert not any(isinstance(layer, nn.ChannelShuffle) for layer in plain.modules())


def test_pooled_shortcut_comes_first_in_the_concatenation() -> None:
    strided = next(layer for layer in build_model(SMALL["shufflenet-small"]) if isinstance(layer, Branches))
    assert isinstance(strided.branches[0][0], nn.AvgPool2d)  # type: ignore[index]


def test_multipliers_scale_width_and_resolution() -> None:
    config = mobilenet.MobileNetConfig(image=GREY, alpha=0.5, rho=0.75)
    assert config.input_image == (1, 21, 21)
    assert [config.width(channels) for channels in (32, 64, 1)] == [16, 32, 1]
    narrow = mobilenet.MobileNetV2Config(alpha=0.35)
    assert [narrow.width(channels) for channels in (16, 24, 32, 96, 320)] == [8, 8, 16, 32, 112]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: mobilenet.MobileNetConfig(alpha=0), "alpha must be positive, not 0"),
        (lambda: mobilenet.MobileNetV2Config(rho=-1), "rho must be positive, not -1"),
        (lambda: mobilenet.MobileNetConfig(image=(0, 8, 8)), r"image must be .* not \[0, 8, 8\]"),
        (lambda: resnet.ResNetConfig(classes=0), "classes must be at least 1, not 0"),
        (lambda: shufflenet.ShuffleNetConfig(groups=5), "groups must be one of 1, 2, 3, 4, 8 .* not 5"),
        (lambda: shufflenet.ShuffleNetConfig(groups=0), "groups must be at least 1, not 0"),
        (
            lambda: shufflenet.ShuffleNetConfig(groups=3, stages=(Stage(channels=100, stride=2),)),
            "100 channels cannot be split into groups = 3",
        ),
        (lambda: shufflenet.ShuffleNetConfig(stages=(Stage(channels=240),)), "must have stride 2"),
        (lambda: squeezenet.SqueezeNetConfig(precision=BITS[0]), "linear_classifier must be true"),
        (lambda: squeezenet.SqueezeNetConfig(stem=()), "stem and stages must have at least one layer"),
        (lambda: shufflenet.ShuffleNetConfig(stem=()), "stem must have at least one layer"),
        (lambda: squeezenet.FireStage(squeeze=0, expand=1), "squeeze of a fire stage must be at least 1"),
        (lambda: Convolution(channels=0), "channels of a convolution must be at least 1"),
        (lambda: Stage(channels=8, repeat=0), "repeat of a stage must be at least 1, not 0"),
        (lambda: xception.XceptionConfig(middle_blocks=-1), "middle_blocks must be 0 or more, not -1"),
        (lambda: xception.XceptionConfig(entry=()), "stem, entry and tail must have at least one layer"),
        (lambda: inception.InceptionConfig(modules=()), "stem and modules must have at least one layer"),
        (lambda: resnet.ResNetConfig(stages=()), "stem and stages must have at least one layer"),
    ],
)
def test_impossible_networks_are_refused(build: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()  # type: ignore[operator]
