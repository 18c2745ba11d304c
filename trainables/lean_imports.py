"""Lazy imports of modules that other libraries import but no trial needs.

A trial's process began with six seconds of imports, and so did the command. A third of it was not needed:

    torchvision       torch._dynamo, and triton and sympy with it, for one function of detectors
    timm              torch._dynamo, for one function of one family of models; wandb, to log there
    torch.optim       torch._dynamo, to keep it from compiling what an optimizer does
    torchmetrics      scipy.signal, to give it a name that an audio metric misses
    albumentations    scipy.special, for one kind of noise

While such a library is imported, a stand-in takes the place of the module that it imports. Afterwards the stand-in is
gone, so that any other import gets the real module. If the library uses its stand-in after all, that imports the real
module.
"""

from __future__ import annotations

import functools
import gc
import importlib
import importlib.abc
import importlib.machinery
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch.optim import Optimizer

T = TypeVar("T", bound="Optimizer")

# Importing library -> module that it would import -> functions that it takes from there at once, or looks for.
PUT_OFF: dict[str, dict[str, tuple[str, ...]]] = {
    "torchvision": {"torch._dynamo.utils": ("is_compile_supported",)},
    "timm.models.naflexvit": {"torch._dynamo": ("disable",)},
    "timm.utils.summary": {"wandb": ()},
    "torchmetrics": {"scipy.signal": ("hamming",)},
    "albumentations": {"scipy.special": ()},
}
DECORATORS = ("disable",)  # applied during the import; the stand-in decorates the function when it is called
# Libraries of thousands of modules without any garbage. Collecting it took a seventh of the import time.
UNCOLLECTED = ("torch", "timm", "ray.tune", *PUT_OFF)


class _StandIn(ModuleType):
    """A module that imports the real one of its name on the first access."""

    def __init__(self, name: str, functions: Sequence[str]) -> None:
        super().__init__(name)
        for function in functions:
            setattr(self, function, self._decorator(function) if function in DECORATORS else self._later(function))

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):  # looked up in every loaded module, by `inspect` for example
            raise AttributeError(attribute)
        self.leave()
        return getattr(importlib.import_module(self.__name__), attribute)

    def leave(self) -> None:
        """Make room for the real module."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]

    def _later(self, function: str) -> Callable[..., Any]:
        return lambda *args, **kwargs: self.__getattr__(function)(*args, **kwargs)

    def _decorator(self, function: str) -> Callable[..., Any]:
        def decorate(decorated: Callable[..., Any], *options: Any, **named: Any) -> Callable[..., Any]:
            @functools.wraps(decorated)
            def call(*args: Any, **kwargs: Any) -> Any:
                return self.__getattr__(function)(decorated, *options, **named)(*args, **kwargs)

            return call

        return decorate


@contextmanager
def _stand_ins(places: Mapping[str, Sequence[str]]) -> Iterator[None]:
    """Put stand-ins in the places of modules that are not imported yet."""
    made = [_StandIn(name, functions) for name, functions in places.items() if name not in sys.modules]
    sys.modules.update({one.__name__: one for one in made})
    try:
        yield
    finally:
        for one in made:
            one.leave()


@contextmanager
def _uncollected() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Loader(importlib.abc.Loader):
    """A loader that loads a library like its own loader, but with stand-ins."""

    def __init__(self, own: importlib.abc.Loader) -> None:
        self.own = own

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self.own.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self.own
        with ExitStack() as around:
            around.enter_context(_uncollected())
            around.enter_context(_stand_ins(PUT_OFF.get(module.__name__, {})))
            self.own.exec_module(module)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in UNCOLLECTED:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


def put_off_imports() -> None:
    """Install the finder for later imports of these libraries. Libraries that are imported already stay as they are."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def eager(kind: type[T]) -> type[T]:
    """Return a class that computes what a torch optimizer does. It is never compiled, so it imports no compiler."""
    import torch

    def plain(name: str) -> Any:
        return inspect.unwrap(getattr(kind, name))  # without the compiler's wrapper, and for `step` without no_grad

    methods = {name: plain(name) for name in ("add_param_group", "load_state_dict", "state_dict", "zero_grad")}
    return type(kind.__name__, (kind,), {**methods, "step": torch.no_grad()(plain("step"))})
