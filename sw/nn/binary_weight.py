"""Latent real weights of binary layers: initialisation, binarization, clipping, evaluation with the real values."""

import torch
from torch import Tensor, nn

from karui.sw.nn.straight_through import nearest_vector_identity, sampled_sign_identity, sign_identity


class BinaryWeightLayer(nn.Module):
    """Base of the layers whose weights are +1 or -1 in the forward pass.

    Parameters
    ----------
    shape
        Shape of the weight tensor.
    stochastic
        Draw the signs at random in training mode (+1 with probability hard-sigmoid of the latent weight). In
        evaluation mode the weights are always the signs.

    Attributes
    ----------
    weight
        Latent real weights. They accumulate gradients and are clipped by `clamp_latent_weights`.
    real_valued
        Set by `use_real_valued_weights`: the forward pass uses the latent weights as they are. Such a layer is not
        binary and is never lowered.
    code_book
        Vectors of -1 and +1 (k, d) that the rows of binary weights are composed of, each the nearest to as many latent
        weights; None where every weight is the sign of its own.
    """

    code_book: Tensor | None

    def __init__(self, shape: tuple[int, ...], *, stochastic: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape).uniform_(-1, 1))
        self.stochastic = stochastic
        self.real_valued = False
        self.register_buffer("code_book", None)

    def binary_weight(self) -> Tensor:
        """Return the weights of the deployed network, exactly +1 or -1, without gradient."""
        return self._binarized(self.weight.detach())

    def forward_weight(self) -> Tensor:
        """Return the weights that this forward pass multiplies by, with their straight-through gradient."""
        if self.real_valued:
            return self.weight
        if self.stochastic and self.training:
            return sampled_sign_identity(self.weight)
        return self._binarized(self.weight)

    def _binarized(self, latent: Tensor) -> Tensor:
        if self.code_book is not None:
            return nearest_vector_identity(latent, self.code_book)
        return sign_identity(latent)


def binary_layers(model: nn.Module) -> list[BinaryWeightLayer]:
    """Return the binary layers of a model in the order of its modules."""
    return [module for module in model.modules() if isinstance(module, BinaryWeightLayer)]


@torch.no_grad()
def clamp_latent_weights(model: nn.Module) -> None:
    """Clip the latent weights of all binary layers to [-1, 1], in place; call it after every optimizer step.

    Without the clip latent weights would grow where they no longer change the output, and never flip back
    (Courbariaux et al. 2015, section 2.4).
    """
    for layer in binary_layers(model):
        layer.weight.clamp_(-1, 1)


def use_real_valued_weights(model: nn.Module) -> None:
    """Let all binary layers compute with their latent real weights from now on.

    This is how BinaryConnect evaluates networks trained with stochastic weights (Courbariaux et al. 2015, section
    2.6). Batch norm statistics gathered with binary weights do not fit the real ones, see
    `karui.sw.train.batch_norm`.
    """
    for layer in binary_layers(model):
        layer.real_valued = True
