"""Shows the progress of compilation on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["progress_display"]


@contextmanager
def progress_display(path: str) -> Iterator[Callable[[int, int], None] | None]:
    """Yields a function of the numbers of compiled core modules and of all; None without a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    # The spinner and the time keep moving while a single module compiles.
    columns = SpinnerColumn(), TextColumn("compiling {task.description}", markup=False), TimeElapsedColumn()
    counted = MofNCompleteColumn(), TextColumn("modules")
    bars: list[Progress] = []
    tasks: list[Any] = []

    def show(done: int, total: int) -> None:
        if not bars:
            shown = columns if total == 1 else columns + counted
            bars.append(Progress(*shown, console=Console(stderr=True), transient=True))
            bars[0].start()
            tasks.append(bars[0].add_task(path, total=total))
        bars[0].update(tasks[0], completed=done)
        if done == total:
            bars[0].stop()

    try:
        yield show
    finally:
        for bar in bars:
            bar.stop()
