"""From a graph to engines: stages, cost, folding, transfers, FIFO depths."""
