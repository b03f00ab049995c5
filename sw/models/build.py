"""From a model configuration to its model."""

from torch import nn

from karui.sw.models.binary_connect import BinaryConnectConfig, build_binary_connect
from karui.sw.models.bnn import BinaryCNNConfig, BinaryMLPConfig, build_binary_cnn, build_binary_mlp

ModelConfig = BinaryMLPConfig | BinaryCNNConfig | BinaryConnectConfig

# The key `family` of a recipe's [model] section.
FAMILIES: dict[str, type[ModelConfig]] = {
    "binary-mlp": BinaryMLPConfig,
    "binary-cnn": BinaryCNNConfig,
    "binary-connect": BinaryConnectConfig,
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


def family_of(config: ModelConfig) -> str:
    """Return the `family` key of a configuration."""
    return next(name for name, cls in FAMILIES.items() if cls is type(config))
