"""Whether operations record the graph: context managers that also decorate functions. Each thread has its mode."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from .. import _C

F = TypeVar("F", bound=Callable[..., Any])


class _GradMode:
    """Sets the mode while its block runs, and back."""

    _mode: bool

    def __init__(self) -> None:
        self._before: list[bool] = []

    def __enter__(self) -> None:
        self._before.append(_C.is_grad_enabled())
        _C._set_grad_enabled(self._mode)

    def __exit__(self, *exception: object) -> None:
        _C._set_grad_enabled(self._before.pop())

    def __call__(self, function: F) -> F:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            before = _C.is_grad_enabled()
            _C._set_grad_enabled(self._mode)
            try:
                return function(*args, **kwargs)
            finally:
                _C._set_grad_enabled(before)

        return wrapped  # type: ignore[return-value]


class no_grad(_GradMode):
    """Inside, nothing is recorded: results have requires_grad=False and intermediates are freed at once."""

    _mode = False

    def __new__(cls, function: Any = None) -> Any:
        """`@no_grad` without parentheses decorates too."""
        self = super().__new__(cls)
        if function is None:
            return self
        cls.__init__(self)
        return self(function)


class enable_grad(no_grad):
    """Inside, operations are recorded, also within `no_grad`."""

    _mode = True


class inference_mode(_GradMode):
    """`no_grad` under PyTorch's other name; `inference_mode(False)` changes nothing."""

    def __init__(self, mode: bool = True) -> None:
        super().__init__()
        self._mode = False if mode else _C.is_grad_enabled()


class set_grad_enabled(_GradMode):
    """Sets the mode at once; as a context manager, until its block ends."""

    def __init__(self, mode: bool) -> None:
        super().__init__()
        self._mode = mode
        self._at_creation = _C.is_grad_enabled()
        _C._set_grad_enabled(mode)

    def __enter__(self) -> None:
        self._before.append(self._at_creation)
        _C._set_grad_enabled(self._mode)

    def __call__(self, function: F) -> F:
        _C._set_grad_enabled(self._at_creation)
        return super().__call__(function)
