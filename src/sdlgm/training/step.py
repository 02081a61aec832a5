"""One gradient step of a model: the objective, its schedules, and the optimiser."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sdlgm.config import TrainingConfig, resolve_training
from sdlgm.environment import device_of, resolve_accelerator, without_variables
from sdlgm.errors import ConfigError
from sdlgm.gradients import ControlVariate, Estimator, averaged, get_estimator, options
from sdlgm.models import SDLGM
from sdlgm.objectives.bounds import temperatures, training_objective
from sdlgm.random import ShareGenerator, generator
from sdlgm.training.optimiser import Schedule, make_adam
from sdlgm.training.proposals import proposal_objective

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from sdlgm.training.processes import Group

__all__ = [
    "TERMS",
    "Objective",
    "Trainer",
    "check_shared",
    "kl_weight",
    "make_fabric",
    "rate_schedule",
    "temperature",
]

TERMS = ("reconstruction", "kl_gates", "kl_features")
"""Terms of the objective that are logged."""


def kl_weight(config: TrainingConfig, step: int) -> float:
    """Return the weight of the KL at a step: it rises linearly from 0 to 1, then stays at 1.

    Search and refitting has no warm-up.
    """
    if config.objective == "rate_distortion":
        return 1.0
    warmup = (config.kl_warmup or 0.0) * config.iterations
    return min(1.0, step / warmup) if warmup else 1.0


def rate_schedule(config: TrainingConfig) -> Schedule:
    """Return the learning rates of a training."""
    return Schedule(float(config.learning_rate or 0.0), config.iterations, config.schedule)


def temperature(start: float, decay: float, step: int) -> float:
    """Return a temperature at a step, annealed towards 0.5 (Jang et al. 2017, section 4)."""
    return max(min(0.5, start), start * math.exp(-decay * step))


class Uncast:
    """A batch that Fabric passes on unchanged; tensors are rounded to the training's precision."""

    def __init__(self, values: Tensor) -> None:
        self.values = values


class Objective(nn.Module):
    """The training objective as a module, so that Fabric can wrap model and loss together.

    It also owns what a gradient estimator needs besides the model: schedules and a control variate.
    """

    def __init__(self, model: SDLGM, config: TrainingConfig) -> None:
        super().__init__()
        self.model, self.config = model, config
        self.kl_weight = torch.ones(())
        """Weight of the KL, on the device. No buffer, for these take the training's precision."""
        self.joint = False
        """Whether steps under "rate_distortion" train the decoder and the prior, too."""
        self.takes = options(str(config.estimator))
        if "control_variate" in self.takes and (config.draws or 1) > 1:
            raise ConfigError(
                f"draws = {config.draws} cannot be used with estimator = {config.estimator!r}, "
                "whose control variate compares the samples of a batch. Use draws = 1, or reinmax."
            )
        if "control_variate" in self.takes:
            # The purpose of the generator keeps its former name, so that results stay the same.
            source = generator(config.seed, "baseline")
            self.control_variate = ControlVariate(
                model.config.features, model.groups, generator=source
            )
        learned = config.temperature == "learned"
        for parameter in (model.log_gate_temperature, model.log_feature_temperature):
            parameter.requires_grad_(learned)

    def set_schedules(self, step: int) -> None:
        """Set the weight of the KL, and temperatures that are annealed, to those of a step."""
        self.kl_weight.fill_(kl_weight(self.config, step))
        if self.config.temperature == "annealed":
            self._anneal(step)

    def forward(self, x: Tensor | Uncast, noise: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the surrogate loss of a batch, and the means of ``TERMS`` and active features."""
        values = x.values if isinstance(x, Uncast) else x
        if self.config.objective == "rate_distortion":
            surrogate, terms = proposal_objective(self.model, values, joint=self.joint)
        else:
            surrogate, terms = training_objective(
                self.model,
                values,
                self._estimator(),
                kl=self.config.kl or "exact",
                kl_weight=self.kl_weight,
                slot_cost=self.config.slot_cost,
                generator=noise,
            )
        numbers = [getattr(terms, term) for term in TERMS]
        active = torch.linalg.vector_norm(terms.codes, ord=0, dim=-1)  # counts what is not 0
        return surrogate, torch.stack([*numbers, active.expand_as(numbers[0])]).mean(-1)

    def _estimator(self) -> Estimator:
        """Return the gradient estimator with its options."""
        estimator = get_estimator(str(self.config.estimator), **self._options())
        own = "samples" in self.takes
        return estimator if own else averaged(estimator, self.config.draws or 1)

    def _options(self) -> dict[str, object]:
        """Return the options of the gradient estimator."""
        found: dict[str, object] = {}
        if "gate_temperature" in self.takes:
            found |= temperatures(self.model)
        if "slope" in self.takes:
            found["slope"] = 1 / self.model.gate_temperature.detach()
        if "control_variate" in self.takes:
            found["control_variate"] = self.control_variate
        if "samples" in self.takes and self.config.draws is not None:
            found["samples"] = self.config.draws
        return found

    @torch.no_grad()
    def _anneal(self, step: int) -> None:
        """Set the temperatures in the model, which is logged and saved with them."""
        decay, shape = self.config.temperature_decay, self.model.config
        gate = temperature(shape.gate_temperature, decay, step)
        feature = temperature(shape.feature_temperature, decay, step)
        self.model.log_gate_temperature.fill_(math.log(gate))
        self.model.log_feature_temperature.fill_(math.log(feature))


def make_fabric(config: TrainingConfig, group: Group | None = None) -> Fabric:
    """Return Fabric for a device and a precision, independent of environment variables.

    Fabric would take over the settings of variables such as ``LT_DEVICES``, and the ranks of a
    batch system such as SLURM, LSF or torchrun. What a training does depends on its settings alone.

    Raises
    ------
    ConfigError
        If this machine does not have the device, or the device not the precision.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    from sdlgm.training.processes import Group

    accelerator = resolve_accelerator(config.accelerator, config.devices)
    device_of(accelerator)  # names a GPU in the log
    try:
        with without_variables("LT_"):
            return Fabric(
                accelerator="cuda" if accelerator == "gpu" else accelerator,
                devices=config.devices,
                precision=config.precision,  # type: ignore[arg-type]
                # Temperatures that the objective does not use have no gradient.
                strategy=DDPStrategy(find_unused_parameters=True) if group else "auto",
                plugins=[group or Group(0, 1)],
            )
    except (RuntimeError, ValueError, ImportError) as error:
        raise ConfigError(
            f"accelerator = {config.accelerator!r} with devices = {config.devices} and precision = "
            f"{config.precision!r} cannot be used here: {str(error).strip()}"
        ) from error


class Trainer:
    """A model, its objective and its optimiser on a device; takes gradient steps.

    Parameters
    ----------
    model
        The model to train in place.
    config
        The settings of the training.
    group
        The processes that share every batch; ``None`` for a single process.

    Raises
    ------
    ConfigError
        If several processes cannot share a batch under the gradient estimator.
    """

    def __init__(self, model: SDLGM, config: TrainingConfig, group: Group | None = None) -> None:
        config = resolve_training(config, model.config)
        self.config, self.group = config, group
        self.fabric = make_fabric(config, group)
        if group:
            check_shared(config)
            self.fabric.launch()
        self.objective = Objective(model, config)
        self.objective.to(self.fabric.device)
        self.objective.kl_weight = torch.ones((), device=self.fabric.device)
        self.adam = make_adam(
            self.objective,
            float(config.learning_rate or 0.0),
            config.weight_decay or 0.0,
            decayed="matrices",
        )
        self._wrapped: nn.Module = self.objective
        self._optimizer: Any = self.adam
        if group or config.precision != "32-true":  # otherwise the wrappers do nothing
            # Fabric's optimiser has its own parameter groups, which do not follow a restored state.
            # The loop therefore sets the learning rate in ours.
            self._wrapped, self._optimizer = self.fabric.setup(self.objective, self.adam)

    def step(self, x: Tensor, step: int) -> Tensor:
        """Take gradient step ``step`` on a batch; return ``TERMS`` and active features, ``(4,)``.

        The learning rate is that of ``adam``, which the loop sets.
        """
        device = self.fabric.device
        noise = generator(self.config.seed, "noise", step, device)
        if self.group:
            x = self.group.share(x)
            noise = ShareGenerator.of(noise, self.group.rank, self.group.size)
        self.objective.set_schedules(step)
        if x.dtype == torch.float64 and device.type == "mps":
            raise ConfigError(
                "These data need double precision, which accelerator = 'mps' does not have. Use "
                "accelerator = 'cpu', or subtract an offset from the data."
            )
        return self.update(x.to(device, non_blocking=True), noise)

    def update(self, x: Tensor, noise: torch.Generator) -> Tensor:
        """Take a step on a batch that is on the device, as :meth:`step`, under set schedules.

        Nothing here waits for the device: no number is read by the host.
        """
        self.adam.zero_grad()
        surrogate, terms = self._wrapped(Uncast(x) if x.dtype == torch.float64 else x, noise)
        self.fabric.backward(surrogate)
        if self.config.gradient_clip is not None:
            self.fabric.clip_gradients(
                self._wrapped,
                self._optimizer,
                max_norm=self.config.gradient_clip,
                error_if_nonfinite=False,  # would wait for the device; the loop checks terms
            )
        self._optimizer.step()
        return terms


def check_shared(config: TrainingConfig) -> None:
    """Raise ``ConfigError`` unless several processes can share a batch under this estimator."""
    takes = options(str(config.estimator))
    if {"control_variate", "gate_temperature"} & takes:
        what = (
            "learns from the whole batch" if "control_variate" in takes else "draws relaxed noise"
        )
        raise ConfigError(
            f"devices = {config.devices} cannot train with the estimator {config.estimator!r}: it "
            f"{what}, which processes do not share. Use devices = 1, or reinmax."
        )
