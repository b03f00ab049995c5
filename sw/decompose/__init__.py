"""Binary decomposition: the weights of a trained network as sums of sign patterns, without training."""
