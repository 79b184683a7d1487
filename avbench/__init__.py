"""avbench: evaluate sounding-video generators with numbers a careful researcher can trust.

>>> run = avbench.evaluate("clips/ours", "prompts.jsonl", "fast")     # doctest: +SKIP
>>> run.scores, run.samples                                           # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from avbench import _checkout

if TYPE_CHECKING:
    from avbench.run import Run

_checkout.install()

__version__ = "0.1.0"
__all__ = ["__version__", "evaluate"]


def evaluate(model: str, suite: str, metrics: Any = (), **options: Any) -> Run:
    """Score a generator on a suite: `avbench.evaluation.evaluate`, imported when first called."""
    from avbench.evaluation import evaluate as perform

    return perform(model, suite, metrics, **options)
