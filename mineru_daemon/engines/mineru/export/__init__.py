"""From a checkpoint to the graphs of a model folder, without torch."""
