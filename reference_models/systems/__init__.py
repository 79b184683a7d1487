"""The joint generators, one module per paper."""
