"""Training with weights stored in few bits: fixed point with stochastic rounding, dynamic fixed point."""

import torch
from torch import Tensor, nn

from karui.sw.nn.weight_quantizer import LARGEST_FRACTION
from karui.sw.train.config import LimitedPrecisionConfig

MAXIMUM_OVERFLOW = 1e-4


@torch.no_grad()
def round_stored_weights(model: nn.Module, config: LimitedPrecisionConfig) -> None:
    """Round all weights (matrices and kernels) to the words that hold them, in place; after every optimizer step.

    Between two steps nothing is kept of a weight but its word: an update smaller than half a step is lost by rounding
    to nearest, and survives on average with stochastic rounding (Gupta et al. 2015, section 3). Biases, batch norms
    and the optimizer's moments stay in floating point.
    """
    for parameter in model.parameters():
        if parameter.dim() > 1:
            fraction = dynamic_fraction(parameter, config.bits) if config.dynamic else config.static_fraction
            parameter.copy_(round_to_words(parameter, config.bits, fraction, stochastic=config.stochastic))


def round_to_words(values: Tensor, bits: int, fraction: int, *, stochastic: bool) -> Tensor:
    """Round to multiples of ``2**-fraction`` and saturate to two's complement words.

    Stochastic rounding takes the upper neighbour with a probability of the distance to the lower one, in steps: its
    mean is the value itself (Gupta et al. 2015, eq. 1). Otherwise to the nearest, half to even. Draws from torch's
    default generator.
    """
    limit = 1 << (bits - 1)
    scaled = values * 2.0**fraction
    rounded = (scaled + torch.rand_like(scaled)).floor_() if stochastic else scaled.round()
    return rounded.clamp_(-limit, limit - 1) * 2.0**-fraction


def dynamic_fraction(values: Tensor, bits: int) -> int:
    """Return the finest fraction at which at most `MAXIMUM_OVERFLOW` of the values saturate, at most 64.

    The criterion of dynamic fixed point (Courbariaux et al. 2014, section 5), whose scale is shared by a tensor. There
    it moves the scale by a factor of two now and then; here it is applied to the present values at every step, which
    needs no state.
    """
    magnitudes = values.abs()
    # frexp: the largest magnitude is in [2**(exponent - 1), 2**exponent), so this fraction saturates none.
    fraction = bits - 1 - int(torch.frexp(magnitudes.amax()).exponent)
    allowed = int(MAXIMUM_OVERFLOW * values.numel())
    while fraction < LARGEST_FRACTION and int((magnitudes * 2.0 ** (fraction + 1) >= 1 << (bits - 1)).sum()) <= allowed:
        fraction += 1
    return fraction
