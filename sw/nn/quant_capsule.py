"""Capsule layers whose forward values are those of the integer graph, with the gradients of the real ones."""

import torch
from torch import Tensor

from karui.sw.ir.capsule_arithmetic import couplings, squash, squashed_sums, updated_logits
from karui.sw.ir.capsule_ops import routing_of, single_fraction, squash_of
from karui.sw.nn import capsule
from karui.sw.nn.capsule import DynamicRouting, Squash, agreements, weighted_sums
from karui.sw.nn.rounded_words import replaced
from karui.sw.numerics import (
    TABLE_FRACTION,
    NumberFormat,
    negative_powers,
    reciprocals,
    signed,
    squash_gains,
)

# A capsule is shorter than 1.
CAPSULE_WORDS = signed(8, 7)
# Of the logits, which count powers of two: up to 128, and finer than the table of powers resolves.
LOGIT_WORDS = signed(16, 8)
VOTE_BITS = 8
SUM_BITS = 16


class QuantSquash(Squash):
    """Squash words to words: what `karui.sw.ir.Squash` computes.

    Parameters
    ----------
    length
        Elements of a capsule.
    words
        Format of the inputs; outputs are `CAPSULE_WORDS`.
    """

    gains: Tensor

    def __init__(self, *, length: int, words: NumberFormat) -> None:
        super().__init__(length=length)
        self.words = words
        self.op = squash_of(words, length, CAPSULE_WORDS)
        self.register_buffer("gains", torch.from_numpy(squash_gains(words, length)), persistent=False)

    def forward(self, capsules: Tensor) -> Tensor:
        vectors = torch.unflatten(capsules, -1, (-1, self.length))
        exact = squash(self.op, _integers(vectors.detach(), self.words), self.gains)
        return replaced(capsule.squash(vectors), _reals(exact, CAPSULE_WORDS, capsules)).flatten(-2)


class QuantDynamicRouting(DynamicRouting):
    """Route words: what `karui.sw.ir.Routing` computes; the coefficients are constants to the gradient.

    Sums of products are taken in the type of the predictions, exactly up to 2**24 in float32 and 2**53 in float64.

    Parameters
    ----------
    out_capsules, out_length, iterations
        See `DynamicRouting`.
    votes
        Format of the predictions; outputs are `CAPSULE_WORDS`.
    sums
        Format of the weighted sums in front of squashing.
    """

    gains: Tensor
    powers: Tensor
    reciprocals: Tensor

    def __init__(
        self, out_capsules: int, out_length: int, *, iterations: int = 3, votes: NumberFormat, sums: NumberFormat
    ) -> None:
        super().__init__(out_capsules, out_length, iterations=iterations)
        self.votes = votes
        self.op = routing_of(
            votes,
            outputs=out_capsules,
            length=out_length,
            iterations=iterations,
            sums=sums,
            output=CAPSULE_WORDS,
            logits=LOGIT_WORDS,
        )
        self.register_buffer("gains", torch.from_numpy(squash_gains(sums, out_length)), persistent=False)
        self.register_buffer("powers", torch.from_numpy(negative_powers()), persistent=False)
        self.register_buffer("reciprocals", torch.from_numpy(reciprocals()), persistent=False)

    def forward(self, predictions: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            votes = torch.unflatten(predictions, -1, (-1, self.out_capsules * self.out_length))
            coefficients, exact = self._route(votes)
            real = capsule.squash(weighted_sums(votes, coefficients * 2.0**-TABLE_FRACTION))
            return replaced(real, _reals(exact, CAPSULE_WORDS, real)).flatten(1)

    @torch.no_grad()
    def _route(self, votes: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients of the last iteration in steps, (batch, j, i), and the integer capsules (batch, j, element)."""
        words = votes * 2.0 ** single_fraction(self.votes)
        coefficients = words.new_full((len(words), self.out_capsules, words.shape[1]), self.op.first_coupling)
        capsules = self._capsules(words, coefficients)
        logits = torch.zeros(len(words), words.shape[1], self.out_capsules, dtype=torch.int64)
        for _ in range(self.iterations - 1):
            agreed = agreements(words, capsules.to(words.dtype)).transpose(1, 2)
            logits = updated_logits(self.op, logits, agreed.to(torch.int64))
            shares = couplings(self.op, logits, self.powers, self.reciprocals)
            coefficients = shares.transpose(1, 2).to(words.dtype)
            capsules = self._capsules(words, coefficients)
        return coefficients, capsules

    def _capsules(self, words: Tensor, coefficients: Tensor) -> Tensor:
        capsules: Tensor = squashed_sums(self.op, weighted_sums(words, coefficients).to(torch.int64), self.gains)
        return capsules


def _integers(reals: Tensor, words: NumberFormat) -> Tensor:
    return (reals * 2.0 ** single_fraction(words)).round().to(torch.int64)


def _reals(integers: Tensor, words: NumberFormat, like: Tensor) -> Tensor:
    return integers.to(like.dtype) * 2.0 ** -single_fraction(words)
