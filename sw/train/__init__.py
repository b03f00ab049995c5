"""Quantization-aware training: configuration, resumable loop, augmentation, checkpoints and recipes."""
