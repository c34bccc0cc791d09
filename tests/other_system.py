"""Run as a program: charforge as it finds itself on a system that is not Linux, as far as that can be played here.

Modules that only Linux and its relatives have cannot be imported by charforge, a folder cannot be opened (Windows),
and nothing of charforge can read /proc. Other libraries are left alone: they have ways of their own there.

    python tests/other_system.py import      imports every module of charforge
    python tests/other_system.py check DIR   runs that command
"""

from __future__ import annotations

import builtins
import importlib
import io
import os
import pkgutil
import sys
from pathlib import Path
from types import FrameType
from typing import Any

LINUX_ONLY = {"resource", "fcntl", "pwd", "grp", "termios", "tty", "pty", "syslog"}


def in_charforge(frame: FrameType | None) -> bool:
    return frame is not None and str(frame.f_globals.get("__name__", "")).split(".")[0] == "charforge"


def play_another_system() -> None:
    real_import, real_os_open, real_open = builtins.__import__, os.open, io.open

    def limited_import(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name.split(".")[0] in LINUX_ONLY and in_charforge(sys._getframe(1)):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real_import(name, *arguments, **keywords)

    def os_open(path: Any, *arguments: Any, **keywords: Any) -> int:
        if in_charforge(sys._getframe(1)) and Path(path).is_dir():
            raise PermissionError(13, "Permission denied", str(path))
        return real_os_open(path, *arguments, **keywords)

    def io_open(file: Any, *arguments: Any, **keywords: Any) -> Any:
        # pathlib opens through this name, psutil through the builtin one
        if str(file).startswith(("/proc", "/sys")):
            raise FileNotFoundError(2, "No such file or directory", str(file))
        return real_open(file, *arguments, **keywords)

    builtins.__import__, os.open, io.open = limited_import, os_open, io_open  # type: ignore[assignment]


def import_everything() -> None:
    import charforge

    names = [module.name for module in pkgutil.walk_packages(charforge.__path__, "charforge.")]
    assert len(names) > 150, names
    for name in names:
        if not name.endswith("__main__"):
            importlib.import_module(name)
    from charforge.machine import available_host_gib, cpu_name, peak_memory_gib

    assert 0 < peak_memory_gib() < 64 and available_host_gib() > 0 and cpu_name()
    print(len(names))


if __name__ == "__main__":
    play_another_system()
    if sys.argv[1:] == ["import"]:
        import_everything()
    else:
        from charforge.cli.main import main

        main()
