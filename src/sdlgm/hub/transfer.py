"""Upload to and download from the Hugging Face Hub: safetensors, JSON and the model card only."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sdlgm.errors import ConfigError, HubError
from sdlgm.hub.card import Card, hub_client

__all__ = ["FILES", "download", "upload"]

FILES = (
    "columns.json",
    "config.json",
    "estimator.json",
    "estimator.safetensors",
    "metrics.json",
    "model.safetensors",
)
"""The only files that are uploaded or downloaded, besides the card ``README.md``."""


def upload(
    folder: Path | str,
    names: Sequence[str],
    card: Card,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
) -> str:
    """Upload files of a folder and a card in one commit; return the address of the commit.

    A model that is already in the repository is replaced completely.

    Parameters
    ----------
    folder, names
        The folder and the names of its files to upload, of those in ``FILES``.
    card
        Content of ``README.md``.
    repo_id
        ``"user/name"`` on the Hub; created if it does not exist.
    private
        Whether a new repository is private. Default: the Hub's default.
    revision
        Branch to commit to; created if it does not exist. Default: the main branch.
    token
        Access token. Default: from ``hf auth login`` or the variable ``HF_TOKEN``.

    Raises
    ------
    HubError
        If huggingface_hub is missing, or the Hub cannot be reached or refuses.
    """
    hub = hub_client()
    text = card.render(repo_id)
    with tempfile.TemporaryDirectory() as staged:
        for name in names:
            shutil.copyfile(Path(folder) / name, Path(staged) / name)
        (Path(staged) / "README.md").write_text(text, encoding="utf-8")
        try:
            api = hub.HfApi(token=token, library_name="sdlgm")
            api.create_repo(repo_id, private=private, exist_ok=True)
            if revision is not None:
                api.create_branch(repo_id, branch=revision, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repo_id,
                folder_path=staged,
                revision=revision,
                allow_patterns=[*FILES, "README.md"],
                delete_patterns=list(FILES),  # left by another kind of model
                commit_message=f"{card.kind} of sdlgm",
            )
        except Exception as error:  # the errors depend on the package's HTTP client
            raise HubError(
                f"{repo_id!r} could not be pushed to the Hugging Face Hub ({_first_line(error)}). "
                "Check the name, the network and your login: hf auth login."
            ) from error
    return str(commit.commit_url)


def download(source: Path | str, *, revision: str | None = None, token: str | None = None) -> Path:
    """Return the folder of a model: a local folder, or a copy from the Hub.

    Parameters
    ----------
    source
        A folder, which needs neither the network nor the extra ``hub``; otherwise ``"user/name"``
        on the Hub.
    revision
        Branch, tag or commit on the Hub. Only a commit hash always names the same files.
    token
        Access token, as for :func:`upload`.

    Raises
    ------
    ConfigError
        If ``revision`` is given for a folder.
    HubError
        If there is no such folder and huggingface_hub is missing, the Hub cannot be reached, or it
        has no such model.
    """
    if Path(source).is_dir():
        if revision is not None:
            raise ConfigError(
                f"{source} is a folder, which has no revision {revision!r}. Leave revision out."
            )
        return Path(source)
    hub = hub_client()
    try:
        folder = hub.snapshot_download(
            str(source),
            revision=revision,
            token=token,
            allow_patterns=[*FILES, "README.md"],
            library_name="sdlgm",
        )
    except Exception as error:  # the errors depend on the package's HTTP client
        raise HubError(
            f"{str(source)!r} is not a folder here and could not be downloaded from the Hugging "
            f"Face Hub at revision {revision or 'main'!r} ({_first_line(error)}). Check the name, "
            "the revision and the network; a private model needs hf auth login."
        ) from error
    return Path(folder)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__
