"""The sparse deep latent generative model."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch import distributions as td

from sdlgm.config import CodeMethod, ModelConfig, masked
from sdlgm.data import Rows, Samples, SparseRows, Summary, as_numbers
from sdlgm.distributions import (
    Chain,
    GroupChain,
    Grouped,
    LevelChain,
    OfGroups,
    grouped_gated_multinomial,
)
from sdlgm.environment import neutral
from sdlgm.errors import DataError
from sdlgm.inference.codes import BATCH, encode_batches
from sdlgm.nn import DataStatistics, check_data, likelihood, linear, mlp
from sdlgm.nn.priors import LevelNetwork, MaskedNetwork, Mixture, compete, single
from sdlgm.nn.statistics import double_kept, standardise, with_common_scale
from sdlgm.random import on_device

__all__ = ["SDLGM"]


class SDLGM(nn.Module):
    r"""Sparse deep latent generative model (Xu et al. 2021, section III).

    Its parts return distributions.

    .. math::

        p(z) &= \text{code of prior gates } \lambda_0 \text{ and features } \alpha
            & \text{(eqs. 1, 2)} \\
        p(x \mid z) &= \text{likelihood at } g(z; \theta) & \text{(eq. 3)} \\
        q(z \mid x) &= \text{code of gates } h(x; \gamma) \text{ and features } f(x; \phi)
            & \text{(eqs. 7, 9)}

    where a code is a :class:`~sdlgm.distributions.Grouped`
    :class:`~sdlgm.distributions.GatedMultinomial`, or, with levels or a structured prior, a
    :class:`~sdlgm.distributions.Chain` of these. ``forward`` is the posterior.

    Parameters
    ----------
    config
        The shape of the model.
    statistics
        Summary of the training data: it centres the encoder's input, and the decoder starts at
        its mean.
    generator
        Source of the initial weights. Default: one seeded with 0.

    Attributes
    ----------
    rate_weight
        What a nat of the code's length is worth, in nats of the reconstruction, when a code is
        searched for (``code="search"``): 1 unless a training aimed at a rate, a distortion or a
        full budget. A scalar tensor.
    saved_as
        Hash of the files that the model was last saved to or loaded from, and hash of its content
        then; ``None`` if there are no files. See :func:`~sdlgm.models.model_sha256`.
    """

    saved_as: tuple[str, str] | None = None
    rate_weight: Tensor
    input_shift: Tensor
    input_scale: Tensor

    @neutral()
    def __init__(
        self,
        config: ModelConfig,
        statistics: DataStatistics,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        generator = generator or torch.Generator().manual_seed(0)
        self.config = config
        if config.scaling == "common":
            statistics = with_common_scale(statistics)
        self.n_inputs = len(statistics.mean)
        self.levels = statistics.levels
        self.groups = int(config.groups or config.budget)
        encoder_hidden = tuple(config.encoder_hidden or ())

        # Bits are not scaled: that would inflate pixels that are hardly ever on.
        bits = config.likelihood == "bernoulli"
        shift = statistics.mean.float() if bits else statistics.shift
        scale = torch.ones_like(statistics.scale) if bits else statistics.scale
        self.register_buffer("input_shift", shift.double().clone())
        self.register_buffer("input_scale", scale.double().clone())

        def hidden(inputs: int, widths: tuple[int, ...]) -> nn.Sequential:
            return mlp(
                inputs,
                widths,
                activation=config.activation,
                normalisation=config.normalisation,
                generator=generator,
                residual=bool(config.residual),
            )

        start = math.log(config.prior_gate) - math.log1p(-config.prior_gate)
        encoder_width = (self.n_inputs, *encoder_hidden)[-1]
        # The gate alone decides a group of one feature (Bernoulli latents).
        self.chooses = config.features > self.groups
        of_level = self.groups // config.levels, config.features // config.levels
        if self.chooses or (config.gates == "learned" and config.shared_trunk):
            self.encoder = hidden(self.n_inputs, encoder_hidden)
        if self.chooses:
            self.feature_head = linear(encoder_width, of_level[1], generator)

        trunk_width = encoder_width if config.shared_trunk else self.n_inputs
        sparsity_width = (trunk_width, *config.sparsity_hidden)[-1]
        if config.gates == "learned":
            self.sparsity = hidden(trunk_width, config.sparsity_hidden)
            self.gate_head = linear(sparsity_width, of_level[0], generator)
            with torch.no_grad():
                self.gate_head.bias.add_(start)

        self.likelihood = likelihood(config.likelihood, statistics)
        decoder_hidden = tuple(config.decoder_hidden or ())
        decoder_width = (config.features, *decoder_hidden)[-1]
        self.decoder = hidden(config.features, decoder_hidden)
        self.output_head = linear(decoder_width, self.likelihood.n_outputs, generator)
        if not self.output_head.bias.is_meta:  # where only the shapes are wanted
            with torch.no_grad():
                self.output_head.bias.copy_(self.likelihood.initial_bias(statistics))

        self.register_buffer("rate_weight", torch.ones((), dtype=torch.float64))
        start = start if config.gates == "learned" else math.inf
        self.prior_gate_logits = nn.Parameter(
            torch.full((self.groups,), start),
            requires_grad=config.prior not in ("fixed", "mixture") and config.gates == "learned",
        )
        self.prior_feature_logits = nn.Parameter(
            torch.zeros(config.features), requires_grad=config.prior == "learned" and self.chooses
        )
        self.log_gate_temperature = nn.Parameter(torch.tensor(math.log(config.gate_temperature)))
        self.log_feature_temperature = nn.Parameter(
            torch.tensor(math.log(config.feature_temperature))
        )
        self._add_structure(encoder_width if config.shared_trunk else self.n_inputs, generator)

    def _add_structure(self, context: int, generator: torch.Generator) -> None:
        """Add the networks of further levels and of a structured prior."""
        config = self.config
        groups, features = self.groups // config.levels, config.features // config.levels
        open_gates, joint = config.gates == "open", bool(config.joint_gates)

        def of_levels(context: int, hidden: tuple[int, ...] | None, blank: bool) -> nn.ModuleList:
            return nn.ModuleList(
                LevelNetwork(
                    context, level * features, tuple(hidden or ()), groups, features,
                    activation=config.activation, normalisation=config.normalisation,
                    residual=bool(config.residual), open_gates=open_gates, joint_gates=joint,
                    generator=generator, start=None if blank else config.prior_gate,
                )
                for level in range(1, config.levels)
            )  # fmt: skip

        if config.levels > 1:
            self.later_levels = of_levels(context, config.level_hidden, blank=False)
        self.prior_network: nn.Module | None = None
        if config.prior == "mixture":
            self.prior_network = Mixture(
                int(config.mixture_components or 1), groups, features, open_gates=open_gates,
                start=config.prior_gate, generator=generator,
            )  # fmt: skip
        elif config.prior == "autoregressive" and config.levels > 1:
            self.prior_network = of_levels(0, config.prior_hidden, blank=True)
        elif masked(config):
            self.prior_network = MaskedNetwork(
                self.groups, config.features, tuple(config.prior_hidden or ()),
                activation=config.activation, joint_gates=joint, generator=generator,
            )  # fmt: skip

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.output_head.weight.device

    @property
    def gate_temperature(self) -> Tensor:
        """Temperature of relaxed gates, a positive scalar."""
        return self.log_gate_temperature.exp()

    @property
    def feature_temperature(self) -> Tensor:
        """Temperature of relaxed features, a positive scalar."""
        return self.log_feature_temperature.exp()

    def forward(self, x: Tensor) -> Grouped | LevelChain:
        """Return the posterior ``q(z | x)`` of samples ``x`` of shape ``(*batch, D)``."""
        x = self.standard_units(x)
        trunk = self.encoder(x) if hasattr(self, "encoder") else x
        read = trunk if self.config.shared_trunk else x
        first = self._first_level(x, trunk, read)
        if self.config.levels == 1:
            return first
        later = (self._level(net, net.read(read)) for net in self.later_levels)  # type: ignore[operator, arg-type]
        return LevelChain(first, list(later))

    def _first_level(self, x: Tensor, trunk: Tensor, read: Tensor) -> Grouped:
        groups = self.groups // self.config.levels
        if self.config.gates == "learned":
            gate_logits = self.gate_head(self.sparsity(read))
        else:
            gate_logits = x.new_full((*x.shape[:-1], groups), math.inf)
        if not self.chooses:
            return self._code(gate_logits, x.new_zeros(*x.shape[:-1], groups))
        feature_logits = self.feature_head(trunk)
        if self.config.joint_gates:
            gate_logits = compete(gate_logits, feature_logits)
        return self._code(gate_logits, feature_logits)

    def _level(
        self,
        network: LevelNetwork,
        context: tuple[Tensor, Tensor] | None = None,
        base: tuple[Tensor, Tensor] | None = None,
    ) -> Callable[[Tensor], Grouped]:
        """Return the distribution of a level as a function of the levels before it."""

        def given(codes: Tensor) -> Grouped:
            gates, features = network(codes, context)
            if base is not None:
                gates, features = gates + base[0], features + base[1]
            return self._code(gates, features)

        return given

    posterior = forward

    def standard_units(self, x: Tensor) -> Tensor:
        """Centre and scale samples ``(*, D)`` as the networks read them; bits are only centred.

        Samples of real numbers are centred in double precision, and then rounded to that of the
        networks.
        """
        kind = self.log_gate_temperature.dtype
        if self.config.likelihood == "bernoulli":
            return x.to(kind) - self.input_shift.to(kind)
        return standardise(x, self.input_shift, self.input_scale).to(kind)

    def prior(self) -> Grouped | Chain:
        """Return the prior ``p(z)``, without a batch dimension."""
        gates, features = self.prior_gate_logits, self.prior_feature_logits
        if self.prior_network is None:
            return self._code(gates, features)
        if isinstance(self.prior_network, nn.ModuleList):
            levels = self.config.levels
            bases = list(zip(gates.chunk(levels), features.chunk(levels), strict=True))
            later = (
                self._level(network, base=base)  # type: ignore[arg-type]
                for network, base in zip(self.prior_network, bases[1:], strict=True)
            )
            return LevelChain(self._code(*bases[0]), list(later))
        shape = self.groups, self.config.budget, self.config.features
        network: MaskedNetwork | Mixture = self.prior_network  # type: ignore[assignment]
        return GroupChain(
            self._prior_of_groups(network),
            *shape,
            like=gates,
            in_order=lambda: self._prior_of_groups(network.in_order()),
        )

    def _prior_of_groups(
        self, network: Callable[[Tensor, slice], tuple[Tensor, Tensor]]
    ) -> OfGroups:
        """Return a function to the prior of some groups, given the groups of codes before each."""
        size = self.config.features // self.groups
        added = self.config.prior != "mixture"

        def given(codes: Tensor, groups: slice) -> Grouped:
            gates, features = network(codes, groups)
            if added:
                gates = gates + self.prior_gate_logits[groups]
                rows = slice(groups.start * size, groups.stop * size)
                features = features + self.prior_feature_logits[rows]
            return self._code(gates, features)

        return given

    def data_distribution(self, codes: Tensor) -> td.Distribution:
        """Return the likelihood ``p(x | z)`` of codes of shape ``(*batch, K)``."""
        return self.likelihood(self._raw(codes))

    @neutral()
    @torch.no_grad()
    def encode(
        self,
        x: ArrayLike | Tensor | Samples,
        code: CodeMethod | None = None,
        *,
        candidates: int = 16,
        max_active: int | None = None,
        seed: int = 0,
        batch_size: int = BATCH,
    ) -> Tensor:
        """Return one code for each row, counts of shape ``(n, K)``.

        Parameters
        ----------
        x
            All rows, shape ``(n, D)``: an array, a tensor, or rows of :mod:`sdlgm.data`. Rows and
            codes are on the CPU, wherever the model is.
        code, candidates, max_active
            How to choose a code: see :func:`~sdlgm.inference.choose_codes`.
        seed
            Source of the draws of ``"sample"`` and ``"best"``, and of bits drawn from grey values.
            The same seed and batch size give the same codes on the same machine.
        batch_size
            Number of rows to encode at a time.

        Raises
        ------
        DataError
            If the rows do not have the model's width or do not suit its likelihood.
        ConfigError
            If ``code`` is unknown or an option does not suit it.
        """
        if not isinstance(x, Rows | SparseRows):
            given = x.detach().cpu() if isinstance(x, Tensor) else as_numbers(np.asarray(x))
            x = Rows(given if isinstance(given, Tensor) else torch.from_numpy(given))
        batches = encode_batches(
            self, x, code, candidates=candidates, max_active=max_active, seed=seed,
            batch_size=batch_size,
        )  # fmt: skip
        return torch.cat(list(batches))

    @neutral()
    @torch.no_grad()
    def decode(self, codes: ArrayLike | Tensor, batch_size: int = BATCH) -> Tensor:
        """Return the mean of ``p(x | z)`` for codes ``(n, K)``: shape ``(n, D)``.

        It is float32. Under a Gaussian likelihood it is float64 if float32 would blur a column,
        such as Unix seconds: if a mean is more than 2^14 deviations, or a unit is extreme. It is on
        the CPU, wherever codes and model are.
        """
        codes = torch.as_tensor(codes, dtype=torch.float32)
        parts = [
            self.data_distribution(part.to(self.device)).mean.cpu()
            for part in codes.split(batch_size)
        ]
        return torch.cat(parts)

    def check_rows(self, rows: Samples, what: str | None = None) -> None:
        """Check that rows suit the model, from the summary of their values.

        Parameters
        ----------
        rows
            The rows.
        what
            What to call them in messages. Default: their name.

        Raises
        ------
        DataError
            If rows do not have the model's width, or values do not suit its likelihood.
        """
        if rows.n_inputs != self.n_inputs:
            raise DataError(
                f"{what or rows.name} has {rows.n_inputs} columns, but the model was trained on "
                f"{self.n_inputs}."
            )
        check_data(self.config.likelihood, rows, what)
        if self.config.likelihood == "categorical" and not rows.dynamic:
            rows.require(self._unknown_level, what)

    def _unknown_level(self, values: Summary) -> str | None:
        if values.high < self.levels:
            return None
        return (
            f"it holds level {values.high:g}, but the model knows 0 to {self.levels - 1}, the "
            "levels of its training data"
        )

    @neutral()
    @torch.no_grad()
    def sample(self, number: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw codes ``z ~ p(z)``, shape ``(n, K)``, and samples ``x ~ p(x | z)``, ``(n, D)``.

        Both are on the CPU, wherever the model is.
        """
        source = on_device(generator, self.device)
        codes = self.prior().sample((number,), generator=source)
        return codes.cpu(), self.likelihood.sample(self._raw(codes), source).cpu()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        with double_kept(self, fn):
            return super()._apply(fn, recurse)

    def _raw(self, codes: Tensor) -> Tensor:
        """Return the decoder's raw outputs."""
        return single(self.output_head(self.decoder(codes.to(self.output_head.weight.dtype))))

    def _code(self, gate_logits: Tensor, feature_logits: Tensor) -> Grouped:
        slots = gate_logits.shape[-1] * (self.config.budget // self.groups)
        return grouped_gated_multinomial(
            slots, single(gate_logits), single(feature_logits), validate_args=False
        )
