"""Who stands for a file: a signature beside it, ``FILE.sig``, in the format of ``ssh-keygen -Y sign``.

Keys are people's SSH keys. The format is read and made by sshsig, the arithmetic is that of cryptography; both are
loaded only where a signature is made or lies there. A file that has none is as good as any.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from charforge.errors import InputError
from charforge.files import write_atomic
from charforge.words import printable_line

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SUFFIX = ".sig"
NAMESPACE = "file"
"""What ssh-keygen's own examples sign files for: its ``-n``."""
HASHES = (b"sha512", b"sha256")
"""Those that ssh-keygen accepts; the library would take MD5."""
LARGEST = 16 << 10


@dataclass(frozen=True)
class Signer:
    """A public key in one line as OpenSSH writes it, its kind, and its fingerprint (``SHA256:...``)."""

    public: str
    kind: str
    fingerprint: str


class BrokenSignature(Exception):
    """What is wrong with a signature, in words that follow "its signature FILE.sig"."""


def signature_file(path: Path) -> Path:
    """Where the signature of ``path`` lies."""
    return path.with_name(path.name + SUFFIX)


def signer_of(path: Path) -> Signer | None:
    """Whose signature lies beside ``path``; None where there is none.

    Raises BrokenSignature for one that does not belong to the file, that is damaged, or of a kind that is not known.
    """
    beside = signature_file(path)
    if not beside.exists() and not beside.is_symlink():
        return None
    from sshsig import InvalidSignature, check_signature
    from sshsig.sshsig import SshsigSignature

    try:
        with beside.open("rb") as opened:
            armored = opened.read(LARGEST + 1)
    except OSError as error:
        raise BrokenSignature("cannot be read") from error
    if len(armored) > LARGEST or b"-----BEGIN SSH SIGNATURE-----" not in armored:
        raise BrokenSignature("is no SSH signature")
    try:
        outer = SshsigSignature.from_armored(armored)
        if outer.namespace != NAMESPACE.encode():
            raise BrokenSignature(f"was made for something else than a file ({outer.namespace[:20]!r})")
        if outer.hash_algo not in HASHES:
            raise BrokenSignature(f"rests on {outer.hash_algo[:20]!r}, which is not safe")
        with path.open("rb") as message:
            key = check_signature(message, armored, NAMESPACE)
    except NotImplementedError as error:
        raise BrokenSignature("is of a kind of key that charforge cannot check (Ed25519 and RSA it can)") from error
    except InvalidSignature as error:
        raise BrokenSignature("does not belong to it: one of the two was changed or exchanged") from error
    except BrokenSignature:
        raise
    # on bytes that mean harm the library ends in whatever its parts end in: AssertionError, TypeError, struct.error
    except Exception as error:
        raise BrokenSignature("is damaged") from error
    return Signer(key.openssh_str(), key.algo_name, key.sha256_str())


def read_key(path: Path) -> Ed25519PrivateKey:
    """A private key of SSH. Raises InputError for whatever is none that can sign here, with the way that works."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    by_hand = f"sign the written file with `ssh-keygen -Y sign -f {path} -n {NAMESPACE} FILE`, which makes the same"
    if path.suffix == ".pub":
        raise InputError(f"--sign {path}: this is the public half of a key; name the private one, without .pub")
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError
        key = load_ssh_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise InputError(f"--sign {path}: it cannot be read ({error.strerror})") from error
    except (TypeError, UnsupportedAlgorithm) as error:
        raise InputError(f"--sign {path}: the key is locked with a passphrase; {by_hand}") from error
    except ValueError as error:
        raise InputError(
            f"--sign {path}: this is no private key of SSH; name one, or make one with `ssh-keygen -t ed25519`"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"--sign {path}: charforge signs with Ed25519 keys only; {by_hand}")
    return key


def sign(path: Path, key: Ed25519PrivateKey) -> Signer:
    """Write the signature of ``path`` beside it, as ``ssh-keygen -Y sign -n file`` does."""
    import base64
    import io

    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    from sshsig import PublicKey
    from sshsig.binary_io import SshWriter
    from sshsig.sshsig import SshsigSignature, SshsigWrapper, hash_file, ssh_enarmor_sshsig

    line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    public = PublicKey.from_openssh_str(line)
    with path.open("rb") as message:
        digest = hash_file(message, HASHES[0])
    told = SshsigWrapper(namespace=NAMESPACE.encode(), hash_algo=HASHES[0], hash=digest)
    signature = SshWriter(io.BytesIO())
    signature.write_string(public.algo_name.encode())
    signature.write_string(key.sign(told.to_bytes()))
    outer = SshWriter(io.BytesIO())
    outer.write(b"SSHSIG")
    outer.write_uint32(SshsigSignature.VERSION)
    for part in (
        base64.b64decode(line.split()[1]),
        told.namespace,
        b"",
        told.hash_algo,
        signature.output_fh.getvalue(),
    ):
        outer.write_string(part)
    write_atomic(signature_file(path), ssh_enarmor_sshsig(outer.output_fh.getvalue()))
    return Signer(line, public.algo_name, public.sha256_str())


def name_of(signer: Signer, trusted: Path) -> str | None:
    """The name that a file of trusted keys (ssh-keygen's ``allowed_signers``) gives the signer; None where it has none.

    Raises InputError for a file that cannot be read, and for an entry of this key whose conditions are not understood.
    """
    from sshsig.allowed_signers import load_allowed_signers_file

    remedy = 'each line is a name and a public key, e.g. "ann@example.org ssh-ed25519 AAAA..."'
    try:
        with trusted.open(encoding="utf-8") as opened:
            entries = list(load_allowed_signers_file(opened))
    except OSError as error:
        raise InputError(f"--trusted {trusted}: it cannot be read ({error.strerror})") from error
    except (ValueError, IndexError) as error:
        raise InputError(f"--trusted {trusted}: it is no list of trusted keys; {remedy}") from error
    for entry in entries:
        if [entry.key_type, entry.base64_key] != signer.public.split()[:2]:
            continue
        name, options = printable_line(entry.principals), entry.options or {}
        if set(options) - {"namespaces"} or "!" in options.get("namespaces", ""):
            raise InputError(
                f"--trusted {trusted}: the key of {name} is trusted on conditions that charforge does not know; check "
                "the file with `ssh-keygen -Y verify`"
            )
        allowed = options.get("namespaces", NAMESPACE).split(",")
        if any(fnmatchcase(NAMESPACE, pattern) for pattern in allowed):
            return name
    return None


def check_unsigned(path: Path) -> None:
    """Raise InputError where a signature lies that another file of this name, once written, would break."""
    beside = signature_file(path)
    if beside.exists() or beside.is_symlink():
        raise InputError(f"{beside} signs the file that is there now: remove it first, or write with --sign KEY")
