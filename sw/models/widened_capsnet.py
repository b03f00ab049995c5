"""A trained CapsNet inside a wider one, which starts as the same function (after Chen et al. 2016, Net2Net).

The narrow network's channels and capsules come first, and read nothing of what is new; the predictions of new capsules
are zero. So the class capsules of the two networks agree, and yet every new weight has a gradient before long: that of
a prediction matrix is the outer product of a capsule, which is random, and the class capsule's gradient.
"""

from dataclasses import fields

import torch
from torch import Tensor, nn

from karui.sw.models.capsnet import CapsNetConfig

# What may differ between the two configurations; `ranges` and `precision` say nothing of shapes.
_WIDTHS = ("channels", "types")
_FREE = (*_WIDTHS, "precision", "ranges")


@torch.no_grad()
def widen_capsnet(
    narrow: nn.Sequential, narrow_config: CapsNetConfig, wide: nn.Sequential, config: CapsNetConfig
) -> None:
    """Write a narrow network's weights into a wide one, in place.

    Parameters
    ----------
    narrow, narrow_config
        Trained network, in floating point or quantized; its weights are taken as they are.
    wide, config
        Network as initialized: what is new in it keeps its weights but for the predictions.

    Raises
    ------
    ValueError
        If the networks differ in more than their widths, or the second is the narrower one.
    """
    for name in (field.name for field in fields(config)):
        before, after = getattr(narrow_config, name), getattr(config, name)
        if name not in _FREE and before != after:
            raise ValueError(f"{name} must be {before} as in the network to start from, not {after}")
        if name in _WIDTHS and before > after:
            raise ValueError(f"{name} must be at least {before} as in the network to start from, not {after}")
    old, new = narrow.state_dict(), wide.state_dict()
    channels, capsules = narrow_config.channels, narrow_config.types * narrow_config.capsule
    for entry in ("weight", "bias"):
        new[f"conv1.{entry}"][:channels] = old[f"conv1.{entry}"]
    new["primary.weight"][:capsules] = 0
    new["primary.weight"][:capsules, :channels] = old["primary.weight"]
    new["primary.bias"][:capsules] = old["primary.bias"]
    predictions = _by_type(new["prediction.weight"], config)
    predictions.zero_()
    predictions[:, : narrow_config.types] = _by_type(old["prediction.weight"], narrow_config)


def _by_type(matrices: Tensor, config: CapsNetConfig) -> Tensor:
    """View the prediction matrices as (position, type, class and element, element of the primary capsule)."""
    return matrices.view(-1, config.types, config.classes * config.vector, config.capsule)
