"""From a model configuration to its model."""

from torch import nn

from karui.sw.models.alexnet import AlexNetConfig, build_alexnet
from karui.sw.models.binary_connect import BinaryConnectConfig, build_binary_connect
from karui.sw.models.bnn import BinaryCNNConfig, BinaryMLPConfig, build_binary_cnn, build_binary_mlp
from karui.sw.models.capsnet import CapsNetConfig, build_capsnet
from karui.sw.models.capsule_vgg import CapsuleVggConfig, build_capsule_vgg
from karui.sw.models.deep_fried import DeepFriedConfig, build_deep_fried
from karui.sw.models.inception import InceptionConfig, build_inception
from karui.sw.models.lenet import LeNet5Config, LeNet300Config, build_lenet_5, build_lenet_300
from karui.sw.models.mnist_cnn import MnistCnnConfig, build_mnist_cnn
from karui.sw.models.mobilenet import MobileNetConfig, MobileNetV2Config, build_mobilenet, build_mobilenet_v2
from karui.sw.models.puppet import PuppetConfig, build_puppet
from karui.sw.models.resnet import ResNetConfig, build_resnet
from karui.sw.models.segnet import SegNetConfig, build_segnet
from karui.sw.models.shufflenet import ShuffleNetConfig, build_shufflenet
from karui.sw.models.squeezenet import SqueezeNetConfig, build_squeezenet
from karui.sw.models.vgg import VggConfig, build_vgg
from karui.sw.models.xception import XceptionConfig, build_xception

# Networks of the fixed-point layers.
LightConfig = (
    MobileNetConfig
    | MobileNetV2Config
    | SqueezeNetConfig
    | ShuffleNetConfig
    | XceptionConfig
    | InceptionConfig
    | ResNetConfig
    | LeNet300Config
    | LeNet5Config
    | DeepFriedConfig
    | CapsNetConfig
    | CapsuleVggConfig
    | PuppetConfig
)
# Networks of ordinary layers, to be decomposed.
FloatConfig = MnistCnnConfig | AlexNetConfig | VggConfig | SegNetConfig
ModelConfig = BinaryMLPConfig | BinaryCNNConfig | BinaryConnectConfig | LightConfig | FloatConfig

# The key `family` of a recipe's [model] section.
FAMILIES: dict[str, type[ModelConfig]] = {
    "binary-mlp": BinaryMLPConfig,
    "binary-cnn": BinaryCNNConfig,
    "binary-connect": BinaryConnectConfig,
    "mobilenet": MobileNetConfig,
    "mobilenet-v2": MobileNetV2Config,
    "squeezenet": SqueezeNetConfig,
    "shufflenet": ShuffleNetConfig,
    "xception": XceptionConfig,
    "inception": InceptionConfig,
    "resnet": ResNetConfig,
    "lenet-300-100": LeNet300Config,
    "lenet5": LeNet5Config,
    "deep-fried": DeepFriedConfig,
    "capsnet": CapsNetConfig,
    "capsule-vgg": CapsuleVggConfig,
    "puppet": PuppetConfig,
    "mnist-cnn": MnistCnnConfig,
    "alexnet": AlexNetConfig,
    "vgg": VggConfig,
    "segnet": SegNetConfig,
}


def build_model(config: ModelConfig) -> nn.Sequential:
    """Build the untrained model of a configuration from the current state of torch's random generator."""
    match config:
        case BinaryMLPConfig():
            return build_binary_mlp(config)
        case BinaryCNNConfig():
            return build_binary_cnn(config)
        case BinaryConnectConfig():
            return build_binary_connect(config)
        case MobileNetConfig():
            return build_mobilenet(config)
        case MobileNetV2Config():
            return build_mobilenet_v2(config)
        case SqueezeNetConfig():
            return build_squeezenet(config)
        case ShuffleNetConfig():
            return build_shufflenet(config)
        case XceptionConfig():
            return build_xception(config)
        case InceptionConfig():
            return build_inception(config)
        case ResNetConfig():
            return build_resnet(config)
        case LeNet300Config():
            return build_lenet_300(config)
        case LeNet5Config():
            return build_lenet_5(config)
        case DeepFriedConfig():
            return build_deep_fried(config)
        case CapsNetConfig():
            return build_capsnet(config)
        case CapsuleVggConfig():
            return build_capsule_vgg(config)
        case PuppetConfig():
            return build_puppet(config)
        case MnistCnnConfig():
            return build_mnist_cnn(config)
        case AlexNetConfig():
            return build_alexnet(config)
        case VggConfig():
            return build_vgg(config)
        case SegNetConfig():
            return build_segnet(config)


def family_of(config: ModelConfig) -> str:
    """Return the `family` key of a configuration."""
    return next(name for name, cls in FAMILIES.items() if cls is type(config))


def input_shape(config: ModelConfig) -> tuple[int, ...]:
    """Return the shape of an input: channels, height, width, or the length of a vector."""
    match config:
        case BinaryMLPConfig() | BinaryConnectConfig():
            return (config.in_features,)
        case MobileNetConfig() | MobileNetV2Config():
            return config.input_image
        case _:
            return config.image
