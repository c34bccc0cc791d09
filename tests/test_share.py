"""Push and pull through a real huggingface_hub client against a small local hub; adapters beside each other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from bundle_parts import png
from exported import contents, good
from hub_server import Hub, serving
from typer.testing import CliRunner, Result

from charforge.bundle import read_bundle
from charforge.bundle.manifest import MANIFEST
from charforge.cli.main import app
from charforge.cli.options import strengths
from charforge.errors import CharforgeError, InputError, MachineError
from charforge.export import hub as hub_room
from charforge.export.hub import fetch_bundle, listed, local_bundle, repository_of, upload

__all__ = ["good"]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    (tmp_path / "remote").mkdir()
    for name in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_PROGRESS_BARS"):
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", name.endswith("BARS"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    with serving(Hub("ann/pip", tmp_path / "remote")) as running:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", running.endpoint)
        template = running.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield running


def run(*arguments: object, code: int | None = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert code is None or result.exit_code == code, (result.output, result.exception)
    return result


def refused(*arguments: object) -> str:
    result = run(*arguments, code=None)
    assert isinstance(result.exception, CharforgeError), result.output
    return str(result.exception)


UPLOADED = {"README.md", "adapter_config.json", "adapter_model.safetensors", "avatar.png", "pip.charx"}


def test_what_would_be_uploaded_is_listed_and_nothing_is_sent(good: Path, hub: Hub) -> None:
    told = run("push", good, "ann/pip", "--dry-run").stderr
    assert all(name in told for name in UPLOADED) and "(private)" in told
    # nobody is there to be asked
    assert "run it again with --yes" in refused("push", good, "ann/pip")
    assert not hub.requests and not hub.created


def test_a_run_is_pushed_private_without_its_pictures_and_pages(good: Path, hub: Hub) -> None:
    folder = good.parent
    for name in ("report.html", "pairs/pairs.jsonl", "images/01.png", "before_after.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(png((9, 9)))
    told = run("push", folder, "ann/pip", "--yes").stderr
    assert "uploaded" in told and "charforge chat hf:ann/pip" in told
    assert {path.name for path in hub.folder.iterdir()} == UPLOADED
    assert hub.created[0].get("private") is True or hub.created[0].get("visibility") == "private"
    assert (hub.folder / "pip.charx").read_bytes() == good.read_bytes()
    assert (hub.folder / "README.md").read_text("utf-8").startswith("---\nbase_model:")


def test_public_is_only_what_was_asked_for(good: Path, hub: Hub) -> None:
    run("push", good, "ann/pip", "--yes", "--public", "--without", "facts")
    assert hub.created[0].get("private") is False or hub.created[0].get("visibility") == "public"
    assert not read_bundle(hub.folder / "pip.charx").manifest.character.facts


def test_what_was_pushed_is_pulled_and_opened_as_it_was(good: Path, hub: Hub, tmp_path: Path) -> None:
    run("push", good, "ann/pip", "--yes")
    run("pull", "ann/pip", "-o", tmp_path / "got.charx")
    assert (tmp_path / "got.charx").read_bytes() == good.read_bytes()
    assert read_bundle(local_bundle("hf:ann/pip")).manifest.character.name == "Pip"
    # a second time nothing travels
    before = len(hub.downloads("pip.charx"))
    fetch_bundle("ann/pip")
    assert len(hub.downloads("pip.charx")) == before == 1


def test_what_comes_from_a_hub_is_checked_like_any_other_file(good: Path, hub: Hub, tmp_path: Path) -> None:
    from test_bundle import as_zip

    members = contents(good)
    members["run.py"] = b"import os"
    (hub.folder / "pip.charx").write_bytes(as_zip(members))
    assert "kind that does not belong" in refused("pull", "ann/pip", "-o", tmp_path / "got.charx")
    assert "kind that does not belong" in refused("chat", "hf:ann/pip", "--say", "hi", "--pictures", tmp_path)
    assert not (tmp_path / "got.charx").exists()


def test_none_or_two_bundles_and_one_that_is_too_large_are_refused(
    good: Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "holds no .charx" in refused("pull", "ann/pip")
    for name in ("a.charx", "b.charx"):
        (hub.folder / name).write_bytes(b"x")
    assert "holds 2 .charx files (a.charx, b.charx)" in refused("pull", "ann/pip")
    (hub.folder / "b.charx").unlink()
    monkeypatch.setattr(hub_room, "LARGEST", 0)
    assert "not fetched" in refused("pull", "ann/pip")
    assert not hub.downloads("a.charx")


def test_what_goes_wrong_at_the_hub_is_a_sentence(good: Path, hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="does not give out ann/other"):
        fetch_bundle("ann/other")
    (hub.folder / "pip.charx").write_bytes(good.read_bytes())
    with pytest.raises(InputError, match="no such revision"):
        fetch_bundle("ann/pip", revision="nowhere")
    hub.refuse_with = 403
    assert "log in with `hf auth login`" in refused("push", good, "ann/pip", "--yes")


def test_a_hub_that_is_not_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MachineError, match="cannot be reached"):
        fetch_bundle("ann/pip", endpoint="http://127.0.0.1:9")


@pytest.mark.parametrize(
    "name", ["wren", "a/b/c", "../x", "ann/..", "ann/ wren", "hf:", "hf:ann", "https://x/y", "-x/y", "a/b\n"]
)
def test_what_is_no_repository_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="USER/NAME"):
        repository_of(name)


def test_nothing_but_what_an_export_writes_is_uploaded(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    (folder / "deep").mkdir(parents=True)
    (folder / "README.md").write_text("x")
    assert [one.name for one in listed(folder)] == ["README.md"]
    for name in ("notes.txt", "deep/README.md"):
        (folder / name).write_text("x")
        with pytest.raises(InputError, match="not uploaded"):
            upload(folder, "ann/pip", endpoint="http://127.0.0.1:9")
        (folder / name).unlink()
    (folder / "a.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(InputError, match="not uploaded"):
        listed(folder)


# adapters beside each other


def test_factors_go_to_whom_they_belong() -> None:
    assert strengths(None, None) == (1.0, [])
    assert strengths(None, [0.5]) == (0.5, [])
    assert strengths(["a", "b"], None) == (1.0, [("a", 1.0), ("b", 1.0)])
    assert strengths(["a", "b"], [0.5, -1.0]) == (1.0, [("a", 0.5), ("b", -1.0)])


@pytest.mark.parametrize(
    ("beside", "scales"), [(None, [1.0, 2.0]), (["a"], [1.0, 2.0]), (["a", "b"], [1.0]), (None, [float("nan")])]
)
def test_factors_that_fit_nobody_are_refused(beside: list[str] | None, scales: list[float]) -> None:
    with pytest.raises(InputError, match="--scale"):
        strengths(beside, scales)


def test_a_style_acts_beside_the_character_with_its_factor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from exported import official

    from charforge.bases import base as loading
    from charforge.chat.session import Style, open_character

    base, bundle = official(tmp_path)
    opened = {"count": 0}

    def load(*arguments: object, **keywords: object) -> object:
        opened["count"] += 1
        return loading.load_base(base.name, dtype=base.model.dtype)

    monkeypatch.setattr("charforge.chat.session.load_base", load)

    def loss(**keywords: object) -> float:
        import torch

        session = open_character(bundle.path, device="cpu", **keywords)  # type: ignore[arg-type]
        model = session.base.model
        sample = (model.text("hello there", "user", False), model.text("I am Pip.", "assistant", True))
        with session.acts(), torch.no_grad():
            return float(model.text_loss([sample])[0])

    own, off, double = loss(), loss(scale=0.0), loss(scale=2.0)
    assert own != off and off == pytest.approx(loss(adapter=False))
    # the same adapter once more beside itself is the same as twice its strength
    assert loss(styles=[Style(bundle.path, 1.0)]) == pytest.approx(double, rel=1e-4)
    assert loss(styles=[Style(bundle.path, 0.0)]) == pytest.approx(own, rel=1e-5)
    assert loss(adapter=False, styles=[Style(bundle.path, 1.0)]) == pytest.approx(own, rel=1e-5)


def test_a_style_of_another_base_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from exported import official
    from test_bundle import zip_of

    from charforge.chat.session import Style, open_character

    base, bundle = official(tmp_path)
    members = contents(bundle.path)
    told = json.loads(members[MANIFEST])
    told["base"]["content_hash"] = "0" * 64
    (tmp_path / "other.charx").write_bytes(zip_of({**members, MANIFEST: json.dumps(told).encode()}))
    monkeypatch.setattr("charforge.chat.session.load_base", lambda *a, **k: base)
    with pytest.raises(InputError, match=r"other\.charx was trained on"):
        open_character(bundle.path, device="cpu", styles=[Style(tmp_path / "other.charx", 1.0)])
