"""Registries and metric cards."""

import subprocess
import sys

import pytest

from avbench.errors import UnknownName
from avbench.features import Feature
from avbench.groups import groups, resolve
from avbench.metric import inputs, sample_metric
from avbench.registry import metrics, models, suites


def test_every_metric_has_a_complete_card() -> None:
    for name in metrics.list():
        metric = metrics.get(name)
        card = metric.card
        assert card.id == name and card.version >= 1 and card.source and card.title, name
        assert inputs(metric), f"{name} declares no inputs"
        assert hasattr(metric, "score" if card.kind == "sample" else "reduce")
        if card.protocol:
            assert card.differs, f"{name} must say how it differs from {card.name}"
            assert card.name in metrics.list() or card.suites, f"{name} is a variant of nothing, and of no one world"


def test_feature_keys_are_stable_and_distinct_for_distinct_recipes() -> None:
    seen: dict[str, Feature] = {}
    for name in metrics.list():
        for need in inputs(metrics.get(name)).values():
            if isinstance(need, Feature):
                assert seen.setdefault(need.key, need) == need
    assert len(seen) == len(set(seen.values()))


def test_groups_resolve_to_metrics_once() -> None:
    for name in groups():
        ids = resolve([name])
        assert len(ids) == len(set(ids)) and set(ids) <= set(metrics.list())
    assert resolve(["av_align", "fast"])[0] == "av_align"


@pytest.mark.parametrize("registry", [metrics, suites, models])
def test_unknown_names_list_what_there_is(registry: object) -> None:
    with pytest.raises(UnknownName, match="list"):
        registry.get("no-such-thing")  # type: ignore[attr-defined]


def test_a_metric_without_its_method_is_refused() -> None:
    with pytest.raises(TypeError, match="needs a method score"):
        sample_metric("x", version=1, better="higher", source="here")(type("X", (), {}))


def test_listing_imports_no_torch() -> None:
    code = (
        "import sys; from avbench.registry import metrics, suites, models;"
        "metrics.list(); suites.list(); models.list(); assert 'torch' not in sys.modules, 'torch was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
