"""T of the layers that a tracer traces, on all samples of its probe or on some of them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ibtrace.errors import Unsupported


class Traced:
    """T of each layer that is traced, if the samples are of the tracer's probe.

    Args:
        layers: ``{layer: (s, n, ...)}``; None: not known.
        samples: n.
    """

    def __init__(self, layers: Mapping[str, Tensor] | None, samples: int) -> None:
        self._layers, self._samples = layers, samples
        self._of: tuple[Traced, Tensor] | None = None

    @property
    def layers(self) -> Mapping[str, Tensor]:
        """T of each layer, ``{layer: (s, n, ...)}``.

        Raises:
            Unsupported: If it is not known.
        """
        if self._layers is None and self._of is not None:
            whole, rows = self._of
            self._layers = whole._on(rows)
        if self._layers is None:
            raise Unsupported(
                "this view holds no activations: a lens says that it needs them, and only samples "
                "of the tracer's probe have any"
            )
        return self._layers

    @property
    def layers_or_none(self) -> Mapping[str, Tensor] | None:
        """The same; None where it is not known, or was let go of."""
        return self._layers

    def at_rows(self, rows: Tensor, samples: int) -> Traced:
        """T on some of the samples, the same for all networks ``(m,)`` or ``(s, m)``."""
        part = Traced(None, samples)
        if self._layers is not None or self._of is not None:
            part._of = self, rows
        return part

    def release(self) -> None:
        """Let go of what can be cut out again."""
        if self._of is not None:
            self._layers = None

    def _on(self, rows: Tensor) -> dict[str, Tensor]:
        # where T has several rows a sample (tokens), no row is a sample's
        of_samples = {n: t for n, t in self.layers.items() if t.shape[1] == self._samples}
        if rows.dim() == 1:
            return {name: t[:, rows.to(t.device)] for name, t in of_samples.items()}
        networks = torch.arange(len(rows))[:, None]
        return {n: t[networks.to(t.device), rows.to(t.device)] for n, t in of_samples.items()}
