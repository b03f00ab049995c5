"""Convolutions with kernels that are generated on chip, as many layers as a frame needs."""
