"""Published tables as data, degraded references, cascades and adapters to outside systems."""

if __name__ != "avbench.baselines":
    raise ImportError(f"import this folder as avbench.baselines, not as {__name__!r}")
