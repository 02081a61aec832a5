"""Estimators to the Hugging Face Hub and back."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self

from sdlgm.estimators._saving import Saved
from sdlgm.hub import Card, download, upload

__all__ = ["Shared"]

_LOADING = """\
from sdlgm.estimators import {kind}

model = {kind}.from_pretrained("{{repo_id}}")
{use}"""


class Shared(Saved):
    """An estimator that can be saved and shared."""

    _what: ClassVar[str]
    """One sentence on what it does, for the model card."""
    _use: ClassVar[str] = "predicted = model.predict(X)"
    """A line of Python that uses ``model``."""
    _task: ClassVar[str]
    """The Hub's name of its task."""

    def push_to_hub(
        self,
        repo_id: str,
        *,
        metrics: Mapping[str, float] | None = None,
        units: str | None = None,
        measured_on: str | None = None,
        license: str | None = None,  # noqa: A002 (the Hub's name)
        private: bool | None = None,
        revision: str | None = None,
        token: str | None = None,
    ) -> str:
        """Save the fitted estimator to the Hugging Face Hub; return the address of the commit.

        Its parameters and the names of its features go with it.

        Parameters
        ----------
        repo_id, private, revision, token
            See :func:`~sdlgm.hub.upload`.
        metrics, units, measured_on, license
            What the model card tells, see :class:`~sdlgm.hub.Card`: held-out numbers, their units,
            and the data, split and seeds that they were measured on.

        Raises
        ------
        HubError
            If the Hub cannot be reached or refuses.
        EstimatorNotFittedError, ModelFileError
            As :meth:`save`.
        ConfigError
            If a metric is no finite number.
        """
        with tempfile.TemporaryDirectory() as folder:
            sha = self.save(Path(folder))
            numbers = {k: v for k, v in vars(self).items() if k.endswith("_") and type(v) is int}
            card = Card(
                kind=type(self).__name__,
                what=self._what,
                loading=_LOADING.format(kind=type(self).__name__, use=self._use),
                sha256=sha,
                facts=numbers | self.get_params(deep=False),  # type: ignore[attr-defined]
                metrics=metrics or {},
                units=units,
                measured_on=measured_on,
                task=self._task,
                license=license,
            )
            names = sorted(path.name for path in Path(folder).iterdir())
            return upload(
                folder, names, card, repo_id, private=private, revision=revision, token=token
            )

    @classmethod
    def from_pretrained(
        cls, source: Path | str, *, revision: str | None = None, token: str | None = None
    ) -> Self:
        """Load an estimator from a folder, as :meth:`load`, or from the Hugging Face Hub.

        Parameters
        ----------
        source, revision, token
            See :func:`~sdlgm.hub.download`.

        Raises
        ------
        HubError
            If it cannot be had from the Hub.
        ModelFileError
            As :meth:`load`.
        """
        return cls.load(download(source, revision=revision, token=token))
