"""The command line as programs and people meet it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from folders import make_folder
from typer.testing import CliRunner

from charforge.cli.main import app

COMMANDS = ("bench", "check", "doctor", "eval", "expand", "train", "chat", "imagine", "inspect", "runs")


def charforge(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "charforge.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=600, check=False)


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from charforge.cli.main import app\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'diffusers', 'peft', 'PIL', 'numpy', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_two_examples(command: str):
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert result.output.count(f"charforge {command}") >= 2


def test_check_of_a_good_folder_is_zero_and_json_is_on_stdout(tmp_path: Path):
    make_folder(tmp_path / "pip")
    done = charforge("check", str(tmp_path / "pip"), "--json")
    assert done.returncode == 0
    told = json.loads(done.stdout)
    assert told["ok"] is True
    assert told["found"]["pictures"] == 10


def test_check_of_a_bad_folder_is_one_with_a_table_on_stderr(tmp_path: Path):
    make_folder(tmp_path / "pip")
    (tmp_path / "pip/images/01.png").write_bytes(b"not a picture")
    done = charforge("check", str(tmp_path / "pip"))
    assert done.returncode == 1
    assert "01.png" in done.stderr
    assert done.stdout == ""


def test_a_missing_folder_is_one_line(tmp_path: Path):
    done = charforge("train", str(tmp_path / "nobody"))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_runs_of_an_empty_folder_and_of_none(tmp_path: Path):
    done = charforge("runs", str(tmp_path), "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"runs": []})
    done = charforge("runs", str(tmp_path / "nowhere"))
    assert done.returncode == 1 and "name the folder that holds your runs" in done.stderr


def test_wrong_usage_is_two():
    assert charforge("train").returncode == 2
    assert charforge("chat", "x.charx", "--nonsense").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--preset", "nobody"], "there is no preset 'nobody'"),
        (["--set", "sft.stepz=3"], "sft.stepz"),
        (["--set", "nonsense"], "write it as key=value"),
        (["--set", "sft.steps=-1"], "sft.steps"),
        (["--base", "nobody"], "there is no base named 'nobody'"),
        (["--stage", "grpo"], "no finished first stage"),
    ],
)
def test_wrong_settings_are_one_with_the_key_named(tmp_path: Path, arguments: list[str], words: str):
    make_folder(tmp_path / "pip")
    done = charforge("train", "pip", *arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_damaged_bundle_is_refused_in_one_line(tmp_path: Path):
    (tmp_path / "x.charx").write_bytes(b"PK nothing")
    for command in (["chat", "x.charx", "--say", "hi"], ["imagine", "x.charx", "a hat"], ["inspect", "x.charx"]):
        done = charforge(*command, cwd=tmp_path)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert "refused" in done.stderr


def test_expand_writes_pairs_and_counts_them(tmp_path: Path):
    make_folder(tmp_path / "pip")
    done = charforge("expand", "pip", "--out", "pairs.jsonl", "--json", cwd=tmp_path)
    assert done.returncode == 0
    told = json.loads(done.stdout)
    written = (tmp_path / "pairs.jsonl").read_text("utf-8").splitlines()
    assert sum(told["tasks"].values()) == len(written) > 100
