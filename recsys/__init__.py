"""What to show: retrieval, ranking, training and evaluation.

    from recsys import Dataset, TwoStageRecommender

The names are imported when they are asked for, so that a server never pays for training code.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recsys.notebook import Dataset, TwoStageRecommender

__all__ = ["Dataset", "TwoStageRecommender"]


def __getattr__(name: str) -> Any:  # noqa: ANN401  a module attribute is anything
    if name in __all__:
        return getattr(import_module("recsys.notebook"), name)
    raise AttributeError(f"module 'recsys' has no attribute {name!r}")
