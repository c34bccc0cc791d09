"""Bundles on the model hub: what is uploaded is listed before; what comes from there is checked like any other file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from charforge.bundle.read import MAX_ADAPTER
from charforge.errors import InputError, MachineError

PREFIX = "hf:"
SUFFIX = ".charx"
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
LARGEST = MAX_ADAPTER + (64 << 20)
"""Bytes of a bundle that are fetched at most."""
ALLOWED = (".charx", ".json", ".md", ".png", ".safetensors")
"""Kinds of files that an upload has."""


@dataclass(frozen=True)
class Upload:
    """One file that goes to the hub."""

    name: str
    bytes: int


def repository_of(name: str) -> str:
    """``USER/NAME`` of ``hf:USER/NAME`` or of itself. Raises InputError for anything else."""
    repository = name.removeprefix(PREFIX)
    if not _REPOSITORY.fullmatch(repository) or ".." in repository or "--" in repository:
        raise InputError(f"{name[:80]!r} is no repository of the model hub: write USER/NAME, e.g. ann/wren")
    return repository


def local_bundle(name: str) -> Path:
    """The file that ``name`` means: a path, or what ``hf:USER/NAME`` gives out. Raises as :func:`fetch_bundle` does."""
    return fetch_bundle(repository_of(name)) if name.startswith(PREFIX) else Path(name)


def fetch_bundle(repository: str, revision: str | None = None, endpoint: str | None = None) -> Path:
    """The one .charx of a repository, in the hub's own cache; what is there already is not fetched again.

    It is as untrusted as it was there: read it with :func:`charforge.bundle.read_bundle`. Raises InputError when there
    is none or it is too large, MachineError when the hub cannot be reached or does not give it out.
    """
    from huggingface_hub import HfApi, hf_hub_download

    with hub_errors(repository):
        api = HfApi(endpoint=endpoint)
        told = api.model_info(repository, revision=revision, files_metadata=True, timeout=30)
        found = [file for file in told.siblings or [] if file.rfilename.endswith(SUFFIX) and "/" not in file.rfilename]
        if len(found) != 1:
            names = ", ".join(file.rfilename for file in found[:4])
            raise InputError(
                f"{repository} holds {len(found) or 'no'} {SUFFIX} files{f' ({names})' if names else ''}, and one is "
                "needed: ask its owner to `charforge push` it again"
            )
        size = found[0].size
        if size is None or size > LARGEST:
            raise InputError(
                f"{found[0].rfilename} of {repository} is larger than {LARGEST >> 20} MiB, or the hub does not say how "
                "large it is: not fetched"
            )
        return Path(hf_hub_download(repository, found[0].rfilename, revision=told.sha, endpoint=api.endpoint))


def listed(folder: Path) -> list[Upload]:
    """What an upload of ``folder`` would send. Raises InputError for a file of a kind that no export writes."""
    files = sorted(path for path in folder.rglob("*") if not path.is_dir())
    for path in files:
        if path.suffix not in ALLOWED or path.is_symlink() or path.parent != folder:
            raise InputError(f"{path.name} is nothing that charforge exports: not uploaded")
    return [Upload(path.name, path.stat().st_size) for path in files]


def upload(folder: Path, repository: str, private: bool = True, endpoint: str | None = None) -> str:
    """Send the files of ``folder`` in one commit to ``repository``, which is made where it is not there; its address.

    A repository that is there already stays as public or private as it is. Raises as :func:`hub_errors` says.
    """
    from huggingface_hub import HfApi

    names = [one.name for one in listed(folder)]
    with hub_errors(repository):
        api = HfApi(endpoint=endpoint)
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository, folder_path=folder, allow_patterns=names, commit_message="Upload from charforge"
        )
    return str(address)


@contextmanager
def hub_errors(repository: str) -> Iterator[None]:
    """Whatever goes wrong between here and the hub, in one line."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HTTPError,
        LocalTokenNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except LocalTokenNotFoundError:
        raise MachineError("nobody is logged in to the model hub: run `hf auth login`, or set HF_TOKEN") from None
    except RevisionNotFoundError:
        raise InputError(
            f"{repository} has no such revision: leave --revision out, or give a commit or branch"
        ) from None
    except (GatedRepoError, RepositoryNotFoundError):
        raise MachineError(
            f"the hub does not give out {repository}: it does not exist there, is private, or needs `hf auth login`"
        ) from None
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in (401, 403):
            raise MachineError(
                f"the hub refuses ({status}): log in with `hf auth login` as somebody who may write to {repository}"
            ) from error
        raise _broken_off(error) from error
    except (HTTPError, OSError) as error:
        raise _broken_off(error) from error


def _broken_off(error: Exception) -> MachineError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = (lines[0] if lines else type(error).__name__)[:160]
    return MachineError(f"the model hub cannot be reached ({told}): check the connection and run the command again")
