"""Hardware: streaming components in Amaranth and the generator that joins them to an accelerator."""
