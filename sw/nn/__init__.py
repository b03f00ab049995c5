"""Quantization-aware layers whose forward values are exact integers, with straight-through gradients."""
