"""The accelerator: engines joined, and written as Verilog with memory images and a manifest."""
