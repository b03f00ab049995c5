"""Engines that run on sparse and Huffman-coded weights."""
