"""Names of metric groups, as data in `metrics/groups.toml`, and how `--metrics` is read."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from avbench.errors import UnknownName


@cache
def groups() -> dict[str, tuple[str, ...]]:
    """{group: metric ids or groups}; `all` is every metric that is not a published variant."""
    from avbench.registry import metrics

    table = tomllib.loads((files("avbench.metrics") / "groups.toml").read_text(encoding="utf-8"))
    every = tuple(name for name in metrics.list() if "@" not in name and "." not in name)
    return {**{name: tuple(ids) for name, ids in table.items()}, "all": every}


def profiled(names: Iterable[str], profile: str) -> list[str]:
    """The variant `NAME@profile` of each metric id where there is one, the id itself where there is none."""
    from avbench.registry import metrics

    known, wanted = metrics.list(), list(names)
    if not any(name.endswith(f"@{profile}") for name in known):
        every = sorted({name.partition("@")[2] for name in known if "@" in name})
        raise UnknownName(f"--profile {profile}: no metric has this variant; there are {', '.join(every)}")
    swapped = (f"{name.partition('@')[0]}@{profile}" for name in wanted)
    return list(dict.fromkeys(new if new in known else old for new, old in zip(swapped, wanted)))


def resolve(names: Iterable[str]) -> list[str]:
    """Metric ids behind a mixture of ids and groups, each once, in order. Unknown names raise with suggestions."""
    from avbench.registry import metrics

    known, found = set(metrics.list()), []
    for name in names:
        if name in groups():
            found.extend(resolve(groups()[name]))
        elif name in known:
            found.append(name)
        else:
            raise UnknownName(f"{metrics.unknown(name)}\n  groups: {', '.join(groups())}")
    return list(dict.fromkeys(found))
