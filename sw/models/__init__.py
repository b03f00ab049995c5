"""Network families: a configuration beside the builder of its model, one file a family."""
