"""The command line as programs and people meet it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from command import charforge
from folders import make_folder
from typer.testing import CliRunner

from charforge import __version__
from charforge.cli.main import app

COMMANDS = [*sorted(str(command.name) for command in app.registered_commands), "base list", "base pull", "base add"]


def program(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """In a process of its own."""
    command = [sys.executable, "-m", "charforge.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=600, check=False)


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from charforge.cli.main import app\n"
        f"for name in {['', *COMMANDS]}:\n"
        "    try: app([*name.split(), '-h'])\n    except SystemExit as left: assert not left.code\n"
        "heavy = {'torch', 'transformers', 'diffusers', 'peft', 'PIL', 'numpy', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_two_examples(command: str):
    result = CliRunner().invoke(app, [*command.split(), "--help"])
    assert result.exit_code == 0
    examples = result.output.split("Examples:")[1].split("Options:")[0].split("Arguments:")[0]
    assert examples.count(f"charforge {command}") >= 2
    assert "--quiet" in result.output and "--verbose" in result.output


def test_the_version_is_a_result():
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"charforge {__version__}\n")


@pytest.mark.parametrize("command", ["train", "chat", "imagine", "eval", "bench", "expand"])
def test_what_computes_can_be_told_where(command: str):
    output = CliRunner().invoke(app, [command, "-h"]).output
    assert "--device" in output and "--threads" in output


def test_a_shell_completes_commands_and_options():
    for words, at, expected in (("charforge tra", "1", "train"), ("charforge train --pre", "2", "--preset")):
        environment = {"_CHARFORGE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": at}
        result = CliRunner().invoke(app, [], env=environment, prog_name="charforge")
        assert result.stdout.split() == [expected]
    assert "--install-completion" in CliRunner().invoke(app, ["--help"]).output


@pytest.mark.parametrize("before", [True, False])
def test_quiet_leaves_errors_and_results(tmp_path: Path, before: bool):
    make_folder(tmp_path / "pip")
    command = ["check", str(tmp_path / "pip"), "--no-cost"]
    result = CliRunner().invoke(app, ["--quiet", *command] if before else [*command, "-q"])
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert "ready to train" in CliRunner().invoke(app, command).stderr
    (tmp_path / "pip/images/01.png").write_bytes(b"not a picture")
    result = CliRunner().invoke(app, [*command, "-q"])
    assert result.exit_code == 1 and "01.png" in result.stderr


def test_verbose_says_where_an_error_came_from(tmp_path: Path):
    (tmp_path / "x.charx").write_bytes(b"PK nothing")
    for verbose in (True, False):
        done = program("inspect", "x.charx", *(["--verbose"] if verbose else []), cwd=tmp_path)
        assert done.returncode == 1 and ("Traceback" in done.stderr) is verbose


def test_check_of_a_good_folder_is_zero_and_json_is_on_stdout(tmp_path: Path):
    make_folder(tmp_path / "pip")
    done = program("check", str(tmp_path / "pip"), "--json", "--no-cost")
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
    assert program("train").returncode == 2
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
        # where loading takes more than two seconds, a line says so
        *life, said = done.stderr.splitlines()
        assert "refused" in said and life in ([], ["opening x.charx"])


def test_expand_writes_pairs_and_counts_them(tmp_path: Path):
    make_folder(tmp_path / "pip")
    done = charforge("expand", "pip", "--out", "pairs.jsonl", "--json", cwd=tmp_path)
    assert done.returncode == 0
    told = json.loads(done.stdout)
    written = (tmp_path / "pairs.jsonl").read_text("utf-8").splitlines()
    assert sum(told["tasks"].values()) == len(written) > 100
