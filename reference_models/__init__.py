"""Joint audio-video generators from the papers and their T2V-only ablations."""

if __name__ != "avbench.reference_models":
    raise ImportError(f"import this folder as avbench.reference_models, not as {__name__!r}")
