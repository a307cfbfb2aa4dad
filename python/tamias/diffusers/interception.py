"""Calls of modules answered by others, and the attention product within them.

What answers a module's call stands in `_compiled_call_impl`, the place where torch's own Module.compile()
puts what runs instead of `forward`. It lies outside of `forward`, so hooks that replace that (accelerate's
offloading, layerwise casting, caches) may come and go before, after and beneath it; copies of the module come
without it; and no type, weight or name changes.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from tamias import UnsupportedError
from tamias.denoising.product import Product

_PLACE = "_compiled_call_impl"


class Answer:
    """Answers calls of `module` with answer(plain, ...), `plain` being the module's own call, for `owner`."""

    def __init__(self, owner: Any, module: nn.Module, answer: Callable[..., Any]) -> None:
        self.owner = owner
        self._plain = module._call_impl
        self._answer = answer

    # Of a transformer that torch.compile has wrapped: its calls run as without that, for what they do changes
    # from step to step.
    @torch.compiler.disable
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._answer(self._plain, *args, **kwargs)


class _NoCompile:
    """In place of the compile() of a module whose calls are answered: what it compiled would leave the answer
    out."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        raise UnsupportedError(
            f"{type(self._module).__name__}.compile(): not served while tamias.accelerate() is in force: "
            "restore() first"
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """A copy of the module has no answer, and its own compile()."""
        return MethodType(nn.Module.compile, memo[id(self._module)])


def owner_of(module: nn.Module) -> Any:
    """Who answers the module's calls; None: itself."""
    answer = vars(module).get(_PLACE)
    return answer.owner if isinstance(answer, Answer) else None


class Interceptions:
    """The modules whose calls one owner answers."""

    def __init__(self, owner: Any) -> None:
        self._owner = owner
        self._answers: list[tuple[nn.Module, Answer]] = []

    def add(self, module: nn.Module, answer: Callable[..., Any]) -> None:
        """Lets answer(plain, *args, **kwargs) answer module(*args, **kwargs). Once is enough."""
        if owner_of(module) is self._owner:
            return
        if not hasattr(nn.Module, _PLACE):
            raise UnsupportedError(f"torch: expected nn.Module.{_PLACE}, found none in {torch.__version__}")
        if getattr(module, _PLACE) is not None:
            raise UnsupportedError(f"{type(module).__name__}: expected a module that is not compiled")
        answers = Answer(self._owner, module, answer)
        setattr(module, _PLACE, answers)
        module.compile = _NoCompile(module)
        self._answers.append((module, answers))

    def remove_all(self) -> None:
        for module, answer in self._answers:
            if vars(module).get(_PLACE) is answer:
                del vars(module)[_PLACE]
                del vars(module)["compile"]
        self._answers.clear()


class AttentionProducts(TorchFunctionMode):
    """Within it, answer(product) is asked for each attention product; None leaves it to torch."""

    def __init__(self, answer: Callable[[Product], torch.Tensor | None]) -> None:
        super().__init__()
        self._answer = answer

    def __torch_function__(self, function, types, args=(), kwargs=None):  # torch's own name and signature
        kwargs = kwargs or {}
        if function is functional.scaled_dot_product_attention:
            answer = self._answer(Product(*args, **kwargs))
            if answer is not None:
                return answer
        return function(*args, **kwargs)
