"""Metrics, one file per family; frozen networks under avbench.metrics.encoders."""

if __name__ != "avbench.metrics":
    raise ImportError(f"import this folder as avbench.metrics, not as {__name__!r}")
