"""Calls of the compiled part, whose errors about types become one line that names the argument: the bindings'
own list every signature and every type instead."""

from __future__ import annotations

import functools
import numbers
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

# How a signature spells a type: what people call it, and whether a value is one.
_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "bool": ("True or False", lambda value: isinstance(value, bool)),
    "int": ("a whole number", lambda value: isinstance(value, numbers.Integral)),
    "float": ("a number", lambda value: isinstance(value, numbers.Real)),
    "str": ("a text", lambda value: isinstance(value, str)),
    "os.PathLike": ("a path", lambda value: isinstance(value, os.PathLike)),
    "None": ("None", lambda value: value is None),
    "ndarray": ("an array", lambda value: hasattr(value, "__dlpack__")),
    "collections.abc.Sequence": (
        "several values",
        lambda value: isinstance(value, Sequence) and not isinstance(value, str),
    ),
    "collections.abc.Mapping": ("a dictionary", lambda value: isinstance(value, Mapping)),
}
_WRITABLE = "ndarray[]"


def call(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """function(*arguments, **named), a function, class or method of an object of the compiled part."""
    try:
        return function(*arguments, **named)
    except TypeError as error:
        raise _clear(error, arguments, named) from None


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, or method of a class, with such errors."""

    @functools.wraps(function)
    def call_it(*arguments: Any, **named: Any) -> Any:
        try:
            return function(*arguments, **named)
        except TypeError as error:
            is_method = "(self" in str(error)
            raise _clear(error, arguments[is_method:], named) from None

    return call_it


def _clear(error: TypeError, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> TypeError:
    """An error of the bindings in one line; others as they are."""
    signature = re.search(
        r"incompatible function arguments.*?\n\s*1\. (\w*)\((.*)\) -> ", str(error), re.DOTALL
    )
    return error if signature is None else TypeError(_reason(*signature.groups(), arguments, named))


def _reason(name: str, inside: str, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> str:
    """Why a function of this name and these parameters refuses the arguments, which are without its self."""
    parameters = list(_parameters(inside))
    names = [parameter for parameter, _, _ in parameters]
    for unknown in named.keys() - set(names):
        return f"{unknown}: expected no such argument; expected {', '.join(names)}"
    given = dict(zip(names, arguments)) | named
    for parameter, annotation, has_default in parameters:
        if parameter not in given:
            if not has_default:
                return f"{parameter}: expected a value, found none"
        elif not _fits(annotation, given[parameter]):
            return f"{parameter}: expected {_called(annotation)}, found {type(given[parameter])}"
    for parameter, annotation, _ in parameters:
        # What fits by its type and is refused has memory that cannot be written, or holds what does not fit.
        if _WRITABLE in annotation and given.get(parameter) is not None:
            return f"{parameter}: expected an array that can be written, found one that cannot"
    for parameter, annotation, _ in parameters:
        if "[" in annotation and "ndarray" not in annotation and parameter in given:
            return f"{parameter}: expected {_called(annotation)} as {annotation}, found {given[parameter]!r}"
    return f"{name}: expected ({inside}), found other arguments"


def _parameters(inside: str) -> Iterator[tuple[str, str, bool]]:
    """Name, type, and whether there is a default, of each parameter of a signature."""
    depth, begin = 0, 0
    for end, letter in enumerate(f"{inside},"):
        depth += (letter in "[({") - (letter in "])}")
        if letter != "," or depth:
            continue
        parameter = inside[begin:end].strip()
        begin = end + 1
        name, colon, annotation = parameter.partition(": ")
        if colon:
            annotation, equals, _ = annotation.partition(" = ")
            yield name, annotation, bool(equals)


def _kinds(annotation: str) -> Iterator[str]:
    for part in annotation.split(" | "):
        yield part.partition("[")[0]


def _fits(annotation: str, value: Any) -> bool:
    return any(
        _KINDS[kind][1](value) if kind in _KINDS else type(value).__name__ == kind.rpartition(".")[2]
        for kind in _kinds(annotation)
    )


def _called(annotation: str) -> str:
    return " or ".join(_KINDS[kind][0] if kind in _KINDS else kind for kind in _kinds(annotation))
