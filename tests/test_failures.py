"""Whatever happens, a sentence: the right exit code, no traceback, nothing of the user's overwritten."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from folders import check_character, make_folder
from typer.testing import CliRunner

from charforge.cli import failures
from charforge.cli.main import app
from charforge.cli.output import print_error
from charforge.errors import InputError, Interrupted, MachineError, Problem, from_os_error
from charforge.expand import read_pairs
from charforge.files import check_output, free_name, temporary_folder, write_atomic
from charforge.tensor_files import read_tensors, write_tensors

COMMAND = [sys.executable, "-m", "charforge.cli.main"]


def charforge(*arguments: str | bytes, cwd: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [*COMMAND, *arguments]
    return subprocess.run(command, capture_output=True, cwd=cwd, timeout=300, check=False, env=os.environ | environment)


def refusal(*arguments: str, code: int = 1) -> str:
    """What a command says when it refuses, in one sentence."""
    result = CliRunner().invoke(app, list(arguments))
    error = result.exception
    assert isinstance(error, InputError | MachineError), (result.output, error)
    assert error.exit_code == code and "\n" not in str(error)
    return str(error)


# no input is overwritten


@pytest.mark.parametrize(
    "out", ["dialogues.jsonl", "DIALOGUES.JSONL", "images/01.txt", "Images/new.jsonl", "chats/a.jsonl"]
)
def test_pairs_never_lie_on_the_characters_files(tmp_path: Path, out: str) -> None:
    folder = make_folder(tmp_path / "pip")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    said = refusal("expand", str(folder), "--out", str(folder / out))
    assert "name a place outside" in said and (folder.name in said or out.split("/")[-1] in said)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_pairs_never_lie_on_them_through_links_or_by_the_names_made_from_theirs(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pip")
    (tmp_path / "soft.jsonl").symlink_to(folder / "dialogues.jsonl")
    (tmp_path / "hard.jsonl").hardlink_to(folder / "facts.md")
    (tmp_path / "page.html").hardlink_to(folder / "character.md")
    for out in ("soft.jsonl", "hard.jsonl", "page.jsonl"):
        assert "belongs to the character" in refusal("expand", str(folder), "--out", str(tmp_path / out))
    (tmp_path / "in").symlink_to(folder)
    assert "own" in refusal("expand", str(folder), "--out", str(tmp_path / "in" / "lorebook.jsonl"))


def test_earlier_pairs_are_replaced_also_inside_the_folder(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pip")
    for _ in range(2):
        result = CliRunner().invoke(app, ["expand", str(folder), "--out", str(folder / "pairs.jsonl"), "--no-page"])
        assert result.exit_code == 0, result.exception
    assert len(read_pairs(folder / "pairs.jsonl")) > 100
    # what lies beside them is not taken for the character's
    (folder / "pairs.html").write_text("the page")
    run = folder / "runs" / "pip-1"
    run.mkdir(parents=True)
    (run / "config.toml").write_text("")
    (run / "identity.json").write_text("{}")
    told = [problem.file for problem in check_character(folder)]
    assert told == ["pairs.jsonl"]


@pytest.mark.skipif(os.name != "posix", reason="names that are no text are a matter of Linux")
def test_a_log_with_a_name_of_any_bytes_gives_pairs_that_can_be_written(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pip")
    (folder / "chats").mkdir()
    (folder / "dialogues.jsonl").rename(folder / "chats" / os.fsdecode(b"caf\xe9.jsonl"))
    result = CliRunner().invoke(app, ["expand", str(folder), "--out", str(tmp_path / "pairs.jsonl"), "--no-page"])
    assert result.exit_code == 0, result.exception
    assert any("caf\\xe9.jsonl" in pair.origin for pair in read_pairs(tmp_path / "pairs.jsonl"))


def test_pairs_are_not_written_where_their_page_goes(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pip")
    assert "ends in .jsonl" in refusal("expand", str(folder), "--out", str(tmp_path / "pairs.html"))


def test_a_run_is_not_put_among_the_pictures(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pip")
    for out in (folder, folder / "images", folder / "images" / "run", folder / "chats"):
        assert "of its own" in refusal("train", str(folder), "--out", str(out))
    assert not (folder / "chats").exists() and not (folder / "images" / "run").exists()


def test_a_picture_is_not_drawn_over_the_bundle(tmp_path: Path) -> None:
    (tmp_path / "pip.png").write_bytes(b"a bundle")
    assert "which is read" in refusal("imagine", str(tmp_path / "pip.png"), "x", "--out", str(tmp_path / "PIP.png"))
    for out, remedy in ((tmp_path / "x.jpg", "ends in .png"), (tmp_path, str(tmp_path / "picture.png"))):
        assert remedy in refusal("imagine", "nowhere.charx", "x", "--out", str(out))


def test_the_next_picture_has_a_name_of_its_own(tmp_path: Path) -> None:
    assert free_name(tmp_path, "picture", ".png") == tmp_path / "picture.png"
    for name in ("picture.png", "picture-2.png"):
        (tmp_path / name).write_bytes(b"drawn")
    assert free_name(tmp_path, "picture", ".png") == tmp_path / "picture-3.png"


# nothing is computed, and nothing is created, before places and inputs are right


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("", "it is a folder"),
        ("pip", "it is a folder"),
        ("/dev/null", "not a plain file"),
        ("pip/character.md/x.jsonl", "is a file and no folder"),
        ("x" * 300 + ".jsonl", "too long"),
        ("/proc/self/x.jsonl", "nothing can be written|no such file"),
    ],
)
def test_a_place_that_takes_no_file_is_refused_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, words: str
) -> None:
    make_folder(tmp_path / "pip")
    monkeypatch.chdir(tmp_path)
    said = refusal("expand", "pip", "--out", out)
    assert any(word in said for word in words.split("|")), said


def test_a_start_with_bad_pairs_or_base_leaves_no_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder(tmp_path / "pip")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jsonl").write_bytes("[]".encode("utf-16"))
    for more in (["--pairs", "bad.jsonl"], ["--pairs", "none.jsonl"], ["--base", "nobody"]):
        refusal("train", "pip", "--out", "run", *more)
        assert not (tmp_path / "run").exists()


def test_a_dry_run_looks_at_the_pairs(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pip")
    (tmp_path / "bad.jsonl").write_bytes("[]".encode("utf-16"))
    assert "not UTF-8" in refusal("train", str(folder), "--dry-run", "--pairs", str(tmp_path / "bad.jsonl"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pip")
    os.mkfifo(tmp_path / "pipe.jsonl")
    os.mkfifo(folder / "charforge.toml")
    assert "not a plain file" in refusal("train", str(folder), "--dry-run", "--preset", "mini")
    (folder / "charforge.toml").unlink()
    code = "from charforge.expand import read_pairs; from pathlib import Path; read_pairs(Path('pipe.jsonl'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=tmp_path, timeout=100, check=False)
    assert b"not a plain file" in done.stderr


# the machine at its end


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full disk here")
def test_a_full_disk_is_a_sentence(tmp_path: Path) -> None:
    def fill(_: Path) -> None:
        with Path("/dev/full").open("wb") as file:
            file.write(b"x" * 100_000)

    from charforge.files import write_atomic_with

    with pytest.raises(OSError) as refused:
        write_atomic_with(tmp_path / "a.txt", fill)
    assert str(from_os_error(refused.value)).startswith(f"{tmp_path}/a.txt: the disk is full; free some space")
    assert not list(tmp_path.iterdir())


def test_a_full_place_for_temporary_files_names_what_moves_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for number, why in ((errno.ENOSPC, "the disk is full"), (errno.EFBIG, "the file is larger than may be written")):
        with pytest.raises(MachineError, match=f"temporary files .*{why}.*TMPDIR"), temporary_folder() as folder:
            raise OSError(number, "No", str(folder / "adapter_model.safetensors"))
    # whatever else fails meanwhile is told as it is
    with pytest.raises(FileNotFoundError), temporary_folder() as folder:
        (tmp_path / "nowhere" / "x").write_text("")
    assert not folder.exists()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(MachineError, match=r"no folder for temporary files .*TMPDIR"), temporary_folder():
        pass


def test_a_full_disk_under_tensors_is_told_from_the_librarys_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import SafetensorError

    def fail(*_: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("charforge.tensor_files.save_file", fail)
    with pytest.raises(OSError, match=r"a\.safetensors") as refused:
        write_tensors(tmp_path / "a.safetensors", {"a": torch.zeros(1)})
    assert isinstance(from_os_error(refused.value), MachineError)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full disk here")
def test_a_result_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    make_folder(tmp_path / "pip")
    with Path("/dev/full").open("wb") as full:
        command = [*COMMAND, "check", "--no-cost", "--preset", "mini", "--json", "pip"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, cwd=tmp_path, timeout=300, check=False)
    assert done.returncode == 3
    assert (done.stderr.count(b"\n") == 1 and b"disk is full" in done.stderr) or b"could not be written" in done.stderr


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    make_folder(tmp_path / "pip")
    with subprocess.Popen([*COMMAND, "check", "--no-cost", "--preset", "mini", "--json", "pip"], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, cwd=tmp_path) as started:  # fmt: skip
        assert started.stdout is not None and started.stderr is not None
        started.stdout.close()
        said = started.stderr.read()
    assert said == b"" and started.returncode in (0, 1)


@pytest.mark.parametrize("content", [b"", b"torn", b"\xff" * 64])
def test_torn_tensors_are_told_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(InputError, match="is damaged or cannot be read: remove it"):
        read_tensors(tmp_path / "a", "remove it")


def test_tensors_come_back_with_their_notes(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a", {"a": torch.arange(3)}, {"k": "v"})
    state, notes = read_tensors(tmp_path / "a", "")
    assert state["a"].tolist() == [0, 1, 2] and notes == {"k": "v"}


# any bytes on the command line


def test_words_that_are_no_text_are_refused_and_files_called_so_are_not(tmp_path: Path) -> None:
    make_folder(tmp_path / "pip")
    done = charforge("chat", "x.charx", "--say", b"caf\xe9", cwd=tmp_path)
    assert done.returncode == 2 and b"no UTF-8 text" in done.stderr and b"Traceback" not in done.stderr
    done = charforge("train", "pip", b"--set=base=\xff", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count(b"\n") == 1
    (tmp_path / "pip").rename(tmp_path / os.fsdecode(b"caf\xe9"))
    done = charforge("check", "--no-cost", "--preset", "mini", "--json", b"caf\xe9", cwd=tmp_path)
    assert done.returncode == 0 and json.loads(done.stdout)["ok"], done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_json_is_json_in_every_encoding(tmp_path: Path, encoding: str) -> None:
    folder = make_folder(tmp_path / "pip")
    (folder / "facts.md").write_text("- Pip \U0001f916 é\n", "utf-8")
    (folder / "images/\u96fb.psd").write_bytes(b"8BPS")
    done = charforge("check", "--no-cost", "--preset", "mini", "--json", "pip", cwd=tmp_path, PYTHONIOENCODING=encoding)
    told = json.loads(done.stdout.decode(encoding))
    assert any(problem["file"] == "images/\u96fb.psd" for problem in told["problems"])


def test_the_same_problem_on_many_lines_is_one_row(capsys: pytest.CaptureFixture[str]) -> None:
    problems = [Problem(f"pairs.jsonl:{number}", "error", "parts: Field required", "mend it") for number in range(500)]
    print_error(InputError("pairs.jsonl has 500 bad entries.", problems))
    said = capsys.readouterr().err
    assert said.count("Field required") == 1 and "499" in said


# the last resort


def raising(error: BaseException) -> object:
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (InputError("mend it"), 1, "charforge: mend it"),
        (MachineError("no room"), 3, "charforge: no room"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (SystemExit(130), 130, "interrupted"),
        (Interrupted("stopped and saved"), 130, "charforge: stopped and saved"),
        (SystemExit(2), 2, ""),
        (BrokenPipeError(), 1, ""),
        (PermissionError(13, "Permission denied", "x.md"), 1, "x.md: permission is denied"),
        (OSError(28, "No space left on device"), 3, "the disk is full"),
        (MemoryError(), 3, "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 3, "not enough memory"),
        (KeyError("a\nb"), 70, "this is a fault of charforge"),
        (UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates"), 70, "--verbose"),
    ],
)
def test_every_exception_has_its_exit_code_and_its_sentence(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, words: str
) -> None:
    assert failures._code_of(raising(error)) == code  # type: ignore[arg-type]
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said and said.count("\n") <= 1


def test_details_are_shown_to_those_who_ask(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARFORGE_DEBUG", "1")
    assert failures._code_of(raising(KeyError("x"))) == 70  # type: ignore[arg-type]
    assert "Traceback" in capsys.readouterr().err


def test_what_the_system_refuses_is_told_with_the_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError) as refused:
        write_atomic(tmp_path / "file" / "x.txt", "x")
    said = from_os_error(refused.value)
    assert isinstance(said, InputError) and "file/x.txt: " in str(said) and "name another place" in str(said)
    assert isinstance(from_os_error(OSError(122, "Disk quota exceeded"), "x"), MachineError)
    assert "odd: strange; name another place" in str(from_os_error(OSError(9999, "strange"), "odd"))


def test_a_name_that_no_system_takes_is_refused() -> None:
    with pytest.raises(InputError, match="cannot be the name of a file"):
        check_output(Path("a\0b.jsonl"))


def test_a_good_place_is_let_through_and_nothing_is_made(tmp_path: Path) -> None:
    check_output(tmp_path / "new" / "deep" / "pairs.jsonl")
    assert not list(tmp_path.iterdir())
