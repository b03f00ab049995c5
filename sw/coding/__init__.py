"""Codes for weights and their file form, torch-free: canonical Huffman codes, relative indices, the container."""
