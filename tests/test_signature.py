"""Signatures beside a file: OpenSSH's own are read, ours are read by OpenSSH, and whatever is broken is refused."""

from __future__ import annotations

import base64
import json
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from exported import good
from typer.testing import CliRunner, Result

from charforge.bundle import read_bundle
from charforge.bundle.signature import BrokenSignature, Signer, name_of, read_key, sign, signature_file, signer_of
from charforge.cli.main import app
from charforge.errors import InputError

__all__ = ["good"]
GOLDEN = Path(__file__).parent / "golden" / "signatures"


def key_file(path: Path, key: object = None) -> Path:
    private = key or Ed25519PrivateKey.generate()
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))  # type: ignore[attr-defined]
    path.chmod(0o600)
    return path


def message(tmp_path: Path, signature: str) -> Path:
    """A copy of the golden message with a golden signature beside it."""
    path = tmp_path / "message"
    path.write_bytes((GOLDEN / "message").read_bytes())
    signature_file(path).write_bytes((GOLDEN / signature).read_bytes())
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(*arguments: object) -> str:
    result = run(*arguments)
    assert isinstance(result.exception, InputError), (result.output, result.exception)
    return str(result.exception)


# what OpenSSH made


def test_a_signature_of_openssh_is_read(tmp_path: Path) -> None:
    signer = signer_of(message(tmp_path, "ed25519.sig"))
    kind, public = (GOLDEN / "ed25519.pub").read_text().split()[:2]
    assert signer is not None and (signer.kind, signer.public) == (kind, f"{kind} {public}")
    assert signer.fingerprint.startswith("SHA256:")
    rsa = signer_of(message(tmp_path, "rsa.sig"))
    assert rsa is not None and rsa.kind == "ssh-rsa"


@pytest.mark.parametrize(("name", "told"), [("ecdsa.sig", "Ed25519 and RSA it can"), ("git.sig", "something else")])
def test_what_cannot_be_checked_is_said_in_words(tmp_path: Path, name: str, told: str) -> None:
    with pytest.raises(BrokenSignature, match=told):
        signer_of(message(tmp_path, name))


def test_no_changed_byte_gives_another_signer(tmp_path: Path) -> None:
    path = message(tmp_path, "ed25519.sig")
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(BrokenSignature, match="does not belong to it"):
        signer_of(path)
    whole = base64.b64decode("".join((GOLDEN / "ed25519.sig").read_text().splitlines()[1:-1]))
    own, same = signer_of(message(tmp_path, "ed25519.sig")), 0
    for at in range(len(whole)):
        path = message(tmp_path, "ed25519.sig")
        changed = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        signature_file(path).write_text(armored(changed))
        try:
            assert signer_of(path) == own
            same += 1
        except BrokenSignature:
            continue
    # the library reads a last part whose length is told too large: the lengths of three parts, of four bytes each
    assert same <= 12


def armored(raw: bytes) -> str:
    return f"-----BEGIN SSH SIGNATURE-----\n{base64.b64encode(raw).decode()}\n-----END SSH SIGNATURE-----\n"


def test_bytes_that_mean_harm_end_in_words(tmp_path: Path) -> None:
    path, rng = message(tmp_path, "rsa.sig"), random.Random(3)
    own = signer_of(path)
    whole = base64.b64decode("".join((GOLDEN / "rsa.sig").read_text().splitlines()[1:-1]))
    for _ in range(150):
        raw = bytearray(whole)
        for _ in range(rng.choice((1, 3, 20))):
            raw[rng.randrange(len(raw))] = rng.choice((0, 255, rng.randrange(256)))
        if rng.random() < 0.3:
            raw = raw[: rng.randrange(len(raw))]
        signature_file(path).write_text(armored(bytes(raw)))
        try:
            assert signer_of(path) == own
        except BrokenSignature:
            continue
    for junk in (b"", b"\xff" * 99, b"-----BEGIN SSH SIGNATURE-----\n\n", b"A" * 20_000, armored(b"SSHSIG").encode()):
        signature_file(path).write_bytes(junk)
        with pytest.raises(BrokenSignature):
            signer_of(path)
    signature_file(path).unlink()
    signature_file(path).mkdir()
    with pytest.raises(BrokenSignature, match="cannot be read"):
        signer_of(path)


def test_a_weak_hash_is_refused_though_the_library_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    monkeypatch.setattr("charforge.bundle.signature.HASHES", (b"md5",))
    sign(path, Ed25519PrivateKey.generate())
    assert signer_of(path) is not None
    monkeypatch.undo()
    with pytest.raises(BrokenSignature, match="md5"):
        signer_of(path)


# what we make


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
def test_openssh_reads_what_we_sign(good: Path, tmp_path: Path) -> None:
    run("export", good, "-o", tmp_path / "a.charx", "--sign", key_file(tmp_path / "key"))
    signer = signer_of(tmp_path / "a.charx")
    assert signer is not None
    (tmp_path / "allowed").write_text(f"ann@example.org {signer.public}\n")
    command = ["ssh-keygen", "-Y", "verify", "-f", tmp_path / "allowed", "-I", "ann@example.org", "-n", "file", "-s",
               tmp_path / "a.charx.sig"]  # fmt: skip
    done = subprocess.run(command, input=(tmp_path / "a.charx").read_bytes(), capture_output=True, check=False)
    assert done.returncode == 0 and signer.fingerprint.encode() in done.stdout, done


def test_inspect_says_whose_and_loading_refuses_what_is_broken(good: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.charx"
    told = run("export", good, "-o", out, "--sign", key_file(tmp_path / "key")).stderr
    signer = signer_of(out)
    assert signer is not None and signer.fingerprint in told and "send a.charx.sig along" in told
    (tmp_path / "allowed").write_text(f'# mine\n\nann@example.org namespaces="file,git" {signer.public} laptop\n')
    assert (
        f"signed by ann@example.org {signer.fingerprint}"
        in run("inspect", out, "--trusted", tmp_path / "allowed").stderr
    )
    assert f"signed by the key {signer.fingerprint}" in run("inspect", out).stderr
    result = json.loads(run("inspect", out, "--json", "--trusted", tmp_path / "allowed").stdout)
    assert result["ok"] and result["signature"]["name"] == "ann@example.org"
    # the other file of the same name
    out.write_bytes(good.read_bytes() + b"\0")
    for command in (("inspect", out), ("chat", out, "--say", "x"), ("export", out, "--json")):
        assert "its signature a.charx.sig does not belong to it" in refused(*command)
    result = run("inspect", out, "--json")
    assert result.exit_code == 1 and not json.loads(result.stdout)["ok"]


def test_unsigned_is_normal(good: Path, tmp_path: Path) -> None:
    assert signer_of(good) is None and read_bundle(good)
    assert "sign" not in run("inspect", good).stderr
    result = json.loads(run("inspect", good, "--json").stdout)
    assert result["ok"] and result["signature"] is None
    (tmp_path / "allowed").write_text("")
    result = json.loads(run("inspect", good, "--json", "--trusted", tmp_path / "allowed").stdout)
    assert result["ok"] and "is not signed" in [problem["problem"] for problem in result["problems"]]


def test_a_signature_is_not_broken_by_writing_another_file(good: Path, tmp_path: Path) -> None:
    out, key = tmp_path / "a.charx", key_file(tmp_path / "key")
    run("export", good, "-o", out, "--sign", key)
    before = out.read_bytes()
    assert "remove it first, or write with --sign KEY" in refused("export", good, "-o", out, "--without", "facts")
    assert out.read_bytes() == before
    assert run("export", good, "-o", out, "--without", "facts", "--sign", key).exit_code == 0
    assert out.read_bytes() != before and signer_of(out) is not None


def test_what_is_no_key_to_sign_with_is_said_before_anything_is_written(good: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.charx"
    (tmp_path / "junk").write_text("no key")
    rsa = key_file(tmp_path / "rsa", generate_private_key(65537, 2048))
    for key, told in (
        (tmp_path / "nowhere", "cannot be read"), (tmp_path / "junk", "ssh-keygen -t ed25519"),
        (GOLDEN / "ed25519.pub", "without .pub"), (GOLDEN / "locked_key", "ssh-keygen -Y sign -f"),
        (rsa, "Ed25519 keys only"),
    ):  # fmt: skip
        assert told in refused("export", good, "-o", out, "--sign", key)
    assert not out.exists()
    key = key_file(tmp_path / "key")
    assert "--sign is of a .charx" in refused("export", good, "--json", "--sign", key)
    assert "add -o FILE.charx" in refused("export", good, "--sprites", tmp_path / "s", "--sign", key)
    assert read_key(key)


# trusted keys


SIGNER = Signer("ssh-ed25519 AAAA", "ssh-ed25519", "SHA256:x")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", None),
        ("ann ssh-ed25519 AAAB", None),
        ("bob ecdsa-sha2-nistp256 AAAA\nann ssh-ed25519 AAAA comment", "ann"),
        ('"ann and bob" ssh-ed25519 AAAA', "ann and bob"),
        ('ann namespaces="git" ssh-ed25519 AAAA', None),
        ('ann namespaces="fi*" ssh-ed25519 AAAA', "ann"),
        ('ann namespaces="git" ssh-ed25519 AAAA\nann2 ssh-ed25519 AAAA', "ann2"),
        ("\x1b[31mann ssh-ed25519 AAAA", "\\x1b[31mann"),
    ],
)
def test_the_name_is_that_of_the_key(tmp_path: Path, text: str, name: str | None) -> None:
    (tmp_path / "allowed").write_text(text)
    assert name_of(SIGNER, tmp_path / "allowed") == name


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('ann valid-before="20200101" ssh-ed25519 AAAA', "conditions"),
        ("ann cert-authority ssh-ed25519 AAAA", "conditions"),
        ('ann namespaces="!file,*" ssh-ed25519 AAAA', "conditions"),
        ("ann", "each line is a name and a public key"),
        ('"ann ssh-ed25519 AAAA', "each line is a name"),
        (" ", "each line is a name"),
    ],
)
def test_a_list_that_is_not_understood_is_no_list(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "allowed").write_text(text)
    with pytest.raises(InputError, match=told):
        name_of(SIGNER, tmp_path / "allowed")
    with pytest.raises(InputError, match="cannot be read"):
        name_of(SIGNER, tmp_path / "nowhere")
