"""Configuration of a training."""

import math
from dataclasses import dataclass, field
from typing import Literal

from karui.sw.train.augment import AugmentConfig
from karui.sw.train.kernel_regression import RegressionConfig
from karui.sw.train.reconstruction import ReconstructionConfig


@dataclass(frozen=True, kw_only=True)
class DistillationConfig:
    """Training of a float teacher and its share in the student's loss (Hinton et al. 2015).

    Parameters
    ----------
    epochs
        Epochs of the teacher, a small float CNN, or for generated kernels their twin of stored ones. It is trained
        first, from the same seed and with the same augmentation.
    weight
        Share of the teacher's soft targets in the loss; the labels keep the rest.
    temperature
        Divides the teacher's logits and the student's in the soft part of the loss.
    """

    epochs: int
    weight: float = 0.7
    temperature: float = 2.0

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"the teacher's epochs must be at least 1, not {self.epochs}")
        if not 0 < self.weight <= 1:
            raise ValueError(f"weight must lie in (0, 1], not {self.weight}")
        if self.temperature <= 0:
            raise ValueError(f"temperature must be positive, not {self.temperature}")


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Training in floating point before the quantized one, which starts from its weights.

    Parameters
    ----------
    epochs
        Epochs of the float phase.
    learning_rate
        Its step size at the first step; it ends where the quantized phase's does.
    """

    epochs: int
    learning_rate: float

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"the float phase's epochs must be at least 1, not {self.epochs}")
        if self.learning_rate <= 0:
            raise ValueError(f"the float phase's learning_rate must be positive, not {self.learning_rate}")


@dataclass(frozen=True, kw_only=True)
class LimitedPrecisionConfig:
    """Words that hold the weights between two steps of the optimizer, see `karui.sw.train.limited_precision`.

    Parameters
    ----------
    bits
        Width of a word, 2 to 16.
    rounding
        ``stochastic`` (Gupta et al. 2015) or ``nearest``.
    scale
        ``dynamic``: a power of two a tensor that follows its values (Courbariaux et al. 2014); ``static``: the same for
        all tensors and steps.
    integer_bits
        Bits left of the binary point with a static scale, the sign among them: weights from ``-2**(integer_bits - 1)``.
    """

    bits: int
    rounding: Literal["stochastic", "nearest"] = "stochastic"
    scale: Literal["dynamic", "static"] = "dynamic"
    integer_bits: int = 1

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 16:
            raise ValueError(f"bits of limited_precision must be 2 to 16, not {self.bits}")
        if self.rounding not in ("stochastic", "nearest"):
            raise ValueError(f'rounding must be "stochastic" or "nearest", not {self.rounding!r}')
        if self.scale not in ("dynamic", "static"):
            raise ValueError(f'scale must be "dynamic" or "static", not {self.scale!r}')
        if not -8 <= self.integer_bits <= 8:
            raise ValueError(f"integer_bits must be -8 to 8, not {self.integer_bits}")

    @property
    def stochastic(self) -> bool:
        """Whether rounding is stochastic."""
        return self.rounding == "stochastic"

    @property
    def dynamic(self) -> bool:
        """Whether each tensor has a scale of its own."""
        return self.scale == "dynamic"

    @property
    def static_fraction(self) -> int:
        """n of the steps 2**-n of a static scale."""
        return self.bits - self.integer_bits


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Optimization with a learning rate that falls from `learning_rate` to `final_learning_rate` along half a cosine.

    The weights of the last epoch are the result: no test or validation accuracy picks among epochs.

    Parameters
    ----------
    epochs
        Passes over the training images; 0 where [decompose] takes given weights, or [compress] those of `start`.
    batch_size
        Images an optimizer step.
    learning_rate, final_learning_rate
        The optimizer's step size at the first and after the last step.
    optimizer
        ``adam``, or ``sgd`` with Nesterov's momentum.
    weight_decay
        Decay of the weights (of Adam decoupled from the gradients), not of biases and batch norms.
    loss
        ``squared_hinge`` (one against all, margin 1), ``cross_entropy``, or ``margin``, that of capsules' lengths.
    label_smoothing
        Share of the label's probability that is spread over all classes (Szegedy et al. 2016); with ``cross_entropy``.
    seed
        Seed of the initial weights, the order of images, the distortions and the stochastic weights.
    threads
        Threads of torch. Sums are ordered by them, so a training repeats exactly only with the same number.
    augment
        Distortion of the training images.
    distillation
        Teacher; requires the loss ``cross_entropy``. For the binary families and for generated kernels.
    pretrain
        Float phase, for the families with a `precision`.
    start
        Recipe whose shipped network the first phase starts from, instead of random weights: a capsnet that is narrower
        or as wide; for a continuous generator the network of Euler steps that it is fitted to.
    limited_precision
        Words for the weights between two steps; in floating point unless given.
    reconstruction
        Decoder beside a capsule network; none unless given.
    regression
        Fit of a continuous generator's kernels to those of the Euler generator, before the quantized phase; of its own
        defaults unless given.
    arithmetic
        Number format of the products in convolutions and dense layers, forward and backward; sums and everything
        else stay in ``float32``. ``bfloat16`` holds bipolar weights and activations exactly and takes two thirds of
        the time on processors that have it; the trained network is evaluated in ``float32`` all the same.
    """

    epochs: int
    batch_size: int = 100
    learning_rate: float = 0.02
    final_learning_rate: float = 1e-5
    optimizer: Literal["adam", "sgd"] = "adam"
    weight_decay: float = 0.0
    loss: Literal["squared_hinge", "cross_entropy", "margin"] = "cross_entropy"
    label_smoothing: float = 0.0
    seed: int = 1
    threads: int = 1
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    distillation: DistillationConfig | None = None
    pretrain: PretrainConfig | None = None
    start: str | None = None
    limited_precision: LimitedPrecisionConfig | None = None
    reconstruction: ReconstructionConfig | None = None
    regression: RegressionConfig | None = None
    arithmetic: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        for name in ("batch_size", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.epochs < 0:
            raise ValueError(f"epochs must not be negative, not {self.epochs}")
        if not 0 <= self.final_learning_rate <= self.learning_rate:
            raise ValueError(
                f"final_learning_rate must lie between 0 and learning_rate = {self.learning_rate}, "
                f"not {self.final_learning_rate}"
            )
        if self.optimizer not in ("adam", "sgd"):
            raise ValueError(f'optimizer must be "adam" or "sgd", not {self.optimizer!r}')
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay must not be negative, not {self.weight_decay}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1), not {self.label_smoothing}")
        if self.loss not in ("squared_hinge", "cross_entropy", "margin"):
            raise ValueError(f'loss must be "squared_hinge", "cross_entropy" or "margin", not {self.loss!r}')
        if self.arithmetic not in ("float32", "bfloat16"):
            raise ValueError(f'arithmetic must be "float32" or "bfloat16", not {self.arithmetic!r}')
        if self.distillation is not None and self.loss != "cross_entropy":
            raise ValueError(f'distillation requires loss = "cross_entropy", not {self.loss!r}')
        if self.label_smoothing and self.loss != "cross_entropy":
            raise ValueError(f'label_smoothing requires loss = "cross_entropy", not {self.loss!r}')
        if self.pretrain is not None and self.pretrain.learning_rate < self.final_learning_rate:
            raise ValueError(
                f"the float phase's learning_rate must be at least final_learning_rate = {self.final_learning_rate}, "
                f"not {self.pretrain.learning_rate}"
            )

    def learning_rate_at(self, progress: float) -> float:
        """Return the step size after a fraction `progress` of all steps."""
        span = self.learning_rate - self.final_learning_rate
        return self.final_learning_rate + span * (1 + math.cos(math.pi * progress)) / 2
