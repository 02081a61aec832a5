"""Files to the Hugging Face Hub and back: safetensors, JSON and the model card, nothing else."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sdlgm.errors import ConfigError, HubError
from sdlgm.hub.card import Card, hub_client

__all__ = ["FILES", "download", "upload"]

FILES = (
    "config.json",
    "estimator.json",
    "estimator.safetensors",
    "metrics.json",
    "model.safetensors",
)
"""All that is ever uploaded or downloaded, besides the card ``README.md``."""


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
    """Upload files of a folder, and a card, in one commit; return the commit's address.

    A model that was there before is replaced as a whole. The folder is left as it is.

    Parameters
    ----------
    folder, names
        Which files, of those in ``FILES``.
    card
        What ``README.md`` tells.
    repo_id
        ``"user/name"`` on the Hub; it is made if there is none.
    private
        Whether a new repository is private. Default: the Hub's.
    revision
        Branch to commit to, made if there is none. Default: the main one.
    token
        Access token. Default: that of ``hf auth login`` or of the variable ``HF_TOKEN``.

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
                delete_patterns=list(FILES),  # of another kind of model that was there before
                commit_message=f"{card.kind} of sdlgm",
            )
        except Exception as error:  # whatever the package's HTTP client of the day raises
            raise HubError(
                f"{repo_id!r} could not be pushed to the Hugging Face Hub ({_first_line(error)}). "
                "Check the name, the network and your login: hf auth login."
            ) from error
    return str(commit.commit_url)


def download(source: Path | str, *, revision: str | None = None, token: str | None = None) -> Path:
    """Return the folder of a model: one on this machine as it is, else a copy from the Hub.

    Parameters
    ----------
    source
        A folder, which needs neither network nor extra; else ``"user/name"`` on the Hub.
    revision
        Branch, tag or commit on the Hub. Only a commit's hash names the same files for ever.
    token
        Access token, as of :func:`upload`.

    Raises
    ------
    ConfigError
        If a revision of a folder is asked for.
    HubError
        If there is no such folder, and huggingface_hub is missing or the Hub cannot be reached or
        has no such model.
    """
    if Path(source).is_dir():
        if revision is not None:
            raise ConfigError(
                f"{source} is a folder on this machine, which has no revision {revision!r}. Leave "
                "revision out."
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
    except Exception as error:  # whatever the package's HTTP client of the day raises
        raise HubError(
            f"{str(source)!r} is no folder here, and could not be had from the Hugging Face Hub "
            f"at revision {revision or 'main'!r} ({_first_line(error)}). Check the name, the "
            "revision and the network; a private model needs hf auth login."
        ) from error
    return Path(folder)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__
