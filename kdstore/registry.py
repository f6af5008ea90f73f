"""One generic registry: a folder of modules, one component per file, found by its file name.

``CODECS = Registry[type[Codec]]("codec", "kdstore.codecs")`` lists every public module of the package
without importing it, and imports a module only when its component is asked for. Adding a component is adding
a file: ``kdstore/codecs/mine.py`` that holds ``@CODECS.register("mine")``. Other distributions add theirs
through an entry point in the group ``kdstore.codecs``.
"""

import importlib
import pkgutil
from collections.abc import Callable, Collection
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from kdstore.errors import UnknownNameError, UsageError

T = TypeVar("T")


class Registry(Generic[T]):
    """Components of one kind, by name.

    Parameters
    ----------
    kind
        What a component is called in messages, e.g. ``"codec"``.
    package
        Package whose public modules each hold the component of the same name; also the entry-point group.
    besides
        Public modules of the package that hold none.
    """

    def __init__(self, kind: str, package: str, besides: Collection[str] = ()) -> None:
        self.kind = kind
        self.package = package
        self._besides = {*besides}
        self._components: dict[str, T] = {}
        self._origins: dict[str, str] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that registers a component as ``name``.

        Raises
        ------
        UsageError
            Another component already has this name.
        """

        def add(component: T) -> T:
            origin = getattr(component, "__module__", repr(component))
            if name in self._modules() and origin != f"{self.package}.{name}":
                raise UsageError(
                    f"Expected the {self.kind} {name!r} to come from {self.package}.{name}. Got one from {origin}. "
                    "Name a component after its file."
                )
            if name in self._components and self._origins[name] != origin:
                raise UsageError(
                    f"Expected a new {self.kind} name. Got {name!r} from {origin}, "
                    f"already taken by {self._origins[name]}. Rename one of them."
                )
            self._components[name] = component
            self._origins[name] = origin
            return component

        return add

    def names(self) -> list[str]:
        """All known names, sorted; imports no component."""
        return sorted({*self._modules(), *self._entry_points(), *self._components})

    def get(self, name: str) -> T:
        """The component called ``name``, importing its module when needed.

        Raises
        ------
        UnknownNameError
            No such component; the message names the nearest ones.
        UsageError
            A module does not register the component that its file name promises, or two origins claim it.
        """
        if name not in self._components:
            self._load(name)
        return self._components[name]

    def origin(self, name: str) -> str:
        """The module that the component called ``name`` comes from; raises like :meth:`get`."""
        self.get(name)
        return self._origins[name]

    def _load(self, name: str) -> None:
        modules, points = self._modules(), self._entry_points()
        if name in modules and name in points:
            raise UsageError(
                f"Expected one {self.kind} called {name!r}. Got two: {self.package}.{name} and the entry point "
                f"{points[name].value}. Uninstall or rename the second."
            )
        if name in modules:
            importlib.import_module(f"{self.package}.{name}")
        elif name in points:
            self.register(name)(points[name].load())
        else:
            raise UnknownNameError(self._unknown(name))
        if name not in self._components:
            raise UsageError(
                f"Expected {self.package}.{name} to register a {self.kind} called {name!r}. Got none. "
                "Name the component after its file."
            )

    def _unknown(self, name: str) -> str:
        near = get_close_matches(name, self.names(), n=2)
        hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else f"Known: {', '.join(self.names())}."
        return f"Expected a known {self.kind}. Got {name!r}. {hint}"

    def _modules(self) -> set[str]:
        path = importlib.import_module(self.package).__path__
        public = {module.name for module in pkgutil.iter_modules(path) if not module.name.startswith("_")}
        return public - self._besides

    def _entry_points(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.package)}
