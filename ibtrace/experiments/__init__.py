"""Experiments: a YAML configuration, the training loop that follows it, and the papers' claims."""
