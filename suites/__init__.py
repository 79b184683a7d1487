"""Suites: prompts, references, subsets and protocols, one file or folder per benchmark."""

if __name__ != "avbench.suites":
    raise ImportError(f"import this folder as avbench.suites, not as {__name__!r}")
