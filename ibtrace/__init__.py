"""ibtrace: an Information Bottleneck tracer for PyTorch."""
