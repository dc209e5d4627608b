"""scikit-learn's mutual information of two single features, as a peer to compare ours with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from sklearn.feature_selection import mutual_info_classif, mutual_info_regression
from torch import Tensor

from ibtrace.estimators._checks import checked
from ibtrace.estimators._inputs import check_pair, each_problem, is_ids
from ibtrace.estimators.ross import check_fields
from ibtrace.numerics.bins import dense_ids
from ibtrace.types import Estimate, Tags, Unsupported, label


@checked
@dataclass(frozen=True)
class SklearnMI:
    """I(X;Y) by ``mutual_info_classif`` and ``mutual_info_regression``, given in bits.

    scikit-learn takes *one feature at a time*: x and y may have one column each, or be ids.
    Two floats are estimated as in `KSG`'s first variant in the max-norm (Kraskov et al. 2004),
    ids and floats as in `Ross` (2014), two ids by the plug-in Σ p log p(x,y) / p(x)p(y).
    It clips its results at 0 and adds noise of 1e-10 to floats, seeded by ``seed`` here.

    Args:
        k: Which neighbour.

    Flags: ``clipped`` (the result is exactly 0, so it may have been negative). No standard error.

    References:
        scikit-learn, sklearn.feature_selection.
        Kraskov, Stögbauer & Grassberger 2004, Estimating mutual information, Phys. Rev. E 69.
        Ross 2014, Mutual information between discrete and continuous data sets, PLoS ONE 9.

    Example:
        Two normals with correlation 0.9: 1.198 bits.

        >>> import torch
        >>> noise = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0)).double()
        >>> x, y = noise[:, :1], 0.9 * noise[:, :1] + 0.19 ** 0.5 * noise[:, 1:]
        >>> abs(float(SklearnMI()(x, y).bits) - 1.198) < 0.1
        True
    """

    k: int = 3

    tags: ClassVar[Tags] = Tags(
        estimand="I(X; Y)",
        reference="scikit-learn; Kraskov et al. 2004, Phys. Rev. E 69; Ross 2014, PLoS ONE 9",
        symmetric=True,
        cost="N log N time; one feature at a time; CPU only",
        bias="clipped at 0, so up near independence; at most ψ(N) - ψ(k) nats",
    )
    held_to: ClassVar[tuple[str, ...]] = (
        "1v1-normal-0.75",
        "1v1-additive-0.75",
        "uniform-label-5-1",
        "swapped-uniform-label-5-1",
        "table-3x3",
    )

    def __post_init__(self) -> None:
        check_fields("SklearnMI", self.k, "max", 0)

    @property
    def estimand(self) -> str:
        """The layer itself, as a continuous variable."""
        return "T as a continuous variable"

    def __call__(self, x: Tensor, y: Tensor, *, seed: int = 0) -> Estimate:
        """I(x; y) in bits; see the class. Data on other devices are copied to the CPU.

        Args:
            x: ``(..., n, 1)`` floats or ``(..., n)`` ids.
            y: ``(..., n, 1)`` floats or ``(..., n)`` ids.
            seed: Seeds the noise that scikit-learn adds.

        Raises:
            InvalidInput: If x or y is malformed.
            TooFewSamples: If there are not more than k samples.
            Unsupported: If a variable has more than one column.
        """
        check_pair(label(self), x, y, minimum=self.k + 1)
        for role, value in (("x", x), ("y", y)):
            if not is_ids(value) and value.shape[-1] != 1:
                raise Unsupported(
                    f"{label(self)}: {role} has {value.shape[-1]} columns and scikit-learn takes "
                    "one feature at a time; use ksg or ross"
                )
        bits = each_problem(lambda a, b: self._solve(a, b, seed), x, y)
        return Estimate(bits=bits, flags={"clipped": bits == 0})

    def _solve(self, x: Tensor, y: Tensor, seed: int) -> Tensor:
        first, second = (y, x) if is_ids(x) and not is_ids(y) else (x, y)
        estimate = mutual_info_classif if is_ids(second) else mutual_info_regression
        columns, target = (
            (dense_ids(v) if is_ids(v) else v.detach().double().flatten()).cpu().numpy()
            for v in (first, second)
        )
        nats = estimate(
            columns[:, None],
            target,
            discrete_features=is_ids(first),
            n_neighbors=self.k,
            random_state=seed % 2**32,
        )
        return torch.tensor(float(nats[0]) / math.log(2), dtype=torch.float64, device=x.device)
