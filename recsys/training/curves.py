"""Where a training's figures go while it runs: a board people watch, or nowhere."""

from collections.abc import Mapping
from typing import Protocol


class Curves(Protocol):
    """One training's curves; a figure keeps its name from step to step."""

    def add(self, step: int, figures: Mapping[str, float]) -> None: ...


class NoCurves:
    """Figures nobody keeps."""

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        del step, figures
