"""Public benchmarks, whose prompts and media stay where their owners publish them: a card (.toml) each, few loaders."""

from __future__ import annotations

from avbench.dataset import catalogue, load_public
from avbench.suite import Suite, suite


@suite(*catalogue())
def public(name: str) -> Suite:
    """A public suite from its local files."""
    return load_public(name)
