"""The bar of a run: each part of it has its own count."""

from __future__ import annotations

from pathlib import Path

from charforge.train.progress import Progress


def test_a_part_without_a_count_does_not_show_the_one_before(tmp_path: Path):
    progress = Progress(tmp_path)
    progress.begin("drawing scenes", 10)
    assert [(task.description, task.total) for task in progress._bar.tasks] == [("drawing scenes", 10)]
    progress.begin("measuring", None)
    (task,) = progress._bar.tasks
    assert (task.description, task.total, task.completed) == ("measuring", None, 0)
