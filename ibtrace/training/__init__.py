"""Experiments from YAML: configuration, training loop, runs on disk, checkpoints after the fact."""
