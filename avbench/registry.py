"""One small registry for metrics, suites and generators: built-in modules first, entry points of others after.

Nothing registers itself. A decorated class or function carries a tag; a registry imports the built-in modules of its
room, collects what is tagged, and adds what installed packages offer under its entry-point group. A plugin that fails
to import is kept as a failure with its reason and raises only when it is asked for.
"""

from __future__ import annotations

import difflib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from avbench.errors import UnknownName, UserError

T = TypeVar("T")


@dataclass
class Registry(Generic[T]):
    """Names of one kind of thing.

    kind:    the word used in messages ("metric").
    rooms:   the packages whose modules are searched (["avbench.metrics"]).
    group:   the entry-point group of other packages ("avbench.metrics").
    names:   tagged object -> the names it is known by.
    make:    tagged object and name -> what `get` returns.
    """

    kind: str
    rooms: tuple[str, ...]
    group: str
    names: Callable[[Any], tuple[str, ...]]
    make: Callable[[Any, str], T]
    failures: dict[str, str] = field(default_factory=dict)

    @cached_property
    def _builtin(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for module in self._modules():
            for thing in vars(module).values():
                home = getattr(thing, "__module__", None) or ""
                if home != module.__name__ and not home.startswith(f"{module.__name__}."):
                    continue
                for name in self.names(thing):
                    if name in found:
                        raise UserError(f"two {self.kind}s are named {name!r}: {origin(found[name])}, {origin(thing)}")
                    found[name] = thing
        return found

    def _modules(self) -> Iterator[Any]:
        for room in self.rooms:
            for info in pkgutil.iter_modules(import_module(room).__path__):
                yield import_module(f"{room}.{info.name}")

    @cached_property
    def _plugins(self) -> dict[str, EntryPoint]:
        found: dict[str, EntryPoint] = {}
        for point in entry_points(group=self.group):
            if "." not in point.name:
                self.failures[point.name] = (
                    f"a {self.kind} from another package needs a dot in its name ({point.value})"
                )
            elif point.name in found:
                raise UserError(
                    f"two packages offer the {self.kind} {point.name!r}: {found[point.name].value}, {point.value}"
                )
            else:
                found[point.name] = point
        return found

    def list(self) -> list[str]:
        """All names, sorted."""
        return sorted({*self._builtin, *self._plugins})

    def get(self, name: str) -> T:
        """The thing of this name, or `UnknownName` with suggestions."""
        if name in self._builtin:
            return self.make(self._builtin[name], name)
        if name in self._plugins:
            return self.make(self._load(self._plugins[name]), name)
        raise UnknownName(self.unknown(name))

    def _load(self, point: EntryPoint) -> Any:
        try:
            thing = point.load()
        except Exception as error:
            self.failures[point.name] = f"{type(error).__name__}: {error}"
            raise UserError(f"{self.kind} {point.name!r} cannot be loaded from {point.value}: {error}") from error
        if point.name not in self.names(thing):
            raise UserError(f"{point.value} is not a {self.kind} named {point.name!r}; is its decorator missing?")
        return thing

    def unknown(self, name: str) -> str:
        """The message for a name that is not there."""
        near = difflib.get_close_matches(name, self.list(), n=3)
        hint = f"\n  did you mean: {', '.join(near)}" if near else ""
        return f"no {self.kind} named {name!r}{hint}\n  all {self.kind}s: avbench {self.kind}s list"

    def origin(self, name: str) -> str:
        """Where it is defined, as file:line, or the entry point."""
        if name in self._builtin:
            return origin(self._builtin[name])
        return self._plugins[name].value


def origin(thing: Any) -> str:
    """file:line of a class or function."""
    try:
        return f"{inspect.getsourcefile(thing)}:{inspect.getsourcelines(thing)[1]}"
    except (OSError, TypeError):
        return repr(thing)


def _metric_names(thing: Any) -> tuple[str, ...]:
    card = vars(thing).get("card") if inspect.isclass(thing) else None
    return (card.id,) if card is not None else ()


def _names(attribute: str) -> Callable[[Any], tuple[str, ...]]:
    return lambda thing: getattr(thing, attribute, ()) if callable(thing) else ()


def _call(thing: Any, name: str) -> Any:
    return thing(name)


metrics: Registry[Any] = Registry(
    "metric", ("avbench.metrics",), "avbench.metrics", _metric_names, lambda thing, name: thing()
)
suites: Registry[Any] = Registry("suite", ("avbench.suites",), "avbench.suites", _names("suite_names"), _call)
models: Registry[Any] = Registry(
    "model", ("avbench.baselines", "avbench.reference_models"), "avbench.models", _names("model_names"), _call
)
