"""Frozen networks, one file each; see `avbench.features.Encoder` for the contract."""
