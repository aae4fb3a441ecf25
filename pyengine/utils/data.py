"""`torch.utils.data` under its own path: everything of `pyengine.data`."""

from ..data import *  # noqa: F403
from ..data import __all__ as __all__
