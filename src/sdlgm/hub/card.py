"""The model card: what a model is, how to load it, and its numbers with their meaning."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from numbers import Real
from types import ModuleType

from sdlgm.errors import ConfigError, HubError

__all__ = ["Card", "hub_client"]

_BOUNDS = {
    "negative_elbo": "a bound: minus the ELBO, with discrete codes and the exact KL",
    "nll_bound": "a bound: importance-weighted, with discrete codes",
    "relaxed_objective": "**not a bound**: the paper's objective, with relaxed samples",
}
_ON_LOADING = """\
`pip install "sdlgm[hub]"`. Loading checks names, shapes, types and a hash of the content; nothing \
is executed."""
_ON_BOUNDS = """\
`negative_elbo` and `nll_bound` are upper bounds on minus the log-likelihood of a sample; the \
values are estimates on the rows named, from finitely many codes. `relaxed_objective` is not a \
bound: a relaxed sample carries more information than the discrete code it replaces. The codes \
that this model stores are always discrete."""


@dataclass(frozen=True)
class Card:
    """Content of a model card.

    Raises
    ------
    ConfigError
        If a metric is not a finite number.
    """

    kind: str
    """Name of the class."""
    what: str
    """One sentence on what it does."""
    loading: str
    """Lines of Python that load it, with ``{repo_id}`` for its name on the Hub."""
    sha256: str
    """Hash of the saved model."""
    facts: Mapping[str, object] = field(default_factory=dict)
    """Budget, number of features and other settings."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Measured numbers."""
    units: str | None = None
    """Units of the metrics, and whether lower or higher is better."""
    measured_on: str | None = None
    """Data, split and seeds of the metrics."""
    source: str = "given by whoever pushed the model; sdlgm did not measure them"
    """Who measured the metrics."""
    task: str | None = None
    """The Hub's name of the task (``pipeline_tag``)."""
    license: str | None = None
    """The Hub's name of the license, such as ``"apache-2.0"``."""

    def __post_init__(self) -> None:
        for name, value in self.metrics.items():
            number: object = value  # may be of any type
            if isinstance(number, bool) or not isinstance(number, Real) or not isfinite(number):
                raise ConfigError(f"metrics[{name!r}] must be a finite number, got {value!r}.")

    def render(self, repo_id: str) -> str:
        """Return the card as Markdown under the Hub's YAML header.

        Raises
        ------
        HubError
            If huggingface_hub, which formats the header, is not installed.
        """
        parts = [
            f"# {repo_id}",
            f"A `{self.kind}` of the library sdlgm. {self.what}",
            "## Load it",
            f"```python\n{self.loading.format(repo_id=repo_id)}\n```",
            f"{_ON_LOADING} SHA-256 of the model: `{self.sha256}`.",
            "## Settings",
            _table(("setting", "value"), [(k, _show(v)) for k, v in self.facts.items()]),
            "## Measured",
            *self._measured(),
        ]
        return f"---\n{self._header(repo_id)}\n---\n\n" + "\n\n".join(parts) + "\n"

    def _measured(self) -> list[str]:
        if not self.metrics:
            return ["No numbers were given."]
        bounded = [name for name in self.metrics if name in _BOUNDS]
        if bounded:
            rows = [(n, _show(v), _BOUNDS.get(n, "")) for n, v in self.metrics.items()]
            table = _table(("metric", "value", "what it is"), rows)
        else:
            table = _table(("metric", "value"), [(n, _show(v)) for n, v in self.metrics.items()])
        about = (
            f"Units: {self.units or 'not given'}. Measured on: "
            f"{self.measured_on or 'not given'}. The numbers were {self.source}."
        )
        return [table, about, *([_ON_BOUNDS] if bounded else [])]

    def _header(self, repo_id: str) -> str:
        hub = hub_client()
        results = [
            hub.EvalResult(
                task_type=self.task or "other",
                dataset_type="unknown",  # the Hub has its own names of data sets
                dataset_name=self.measured_on or "not given",
                metric_type=name,
                metric_value=float(value),
            )
            for name, value in self.metrics.items()
        ]
        data = hub.ModelCardData(
            library_name="sdlgm",
            license=self.license,
            pipeline_tag=self.task,
            tags=["sdlgm", self.kind, "sparse-codes", "discrete-latent-variables"],
            model_name=repo_id if results else None,
            eval_results=results or None,
        )
        return str(data.to_yaml())


def hub_client() -> ModuleType:
    """Return the package huggingface_hub.

    Raises
    ------
    HubError
        If it is not installed.
    """
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError:
        raise HubError(
            'The Hugging Face Hub needs huggingface_hub: pip install "sdlgm[hub]".'
        ) from None


def _show(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_show, value)) or "none"
    # Arbitrary text must not break the table.
    return str(value).replace("|", "\\|").replace("\n", " ")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
