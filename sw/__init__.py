"""Software: numbers, the integer graph, its golden model, networks, training and lowering."""
