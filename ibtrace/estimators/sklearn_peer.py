"""scikit-learn's mutual information of two single features, as a peer to compare ours with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ibtrace.errors import InvalidInput, TooFewSamples, Unsupported
from ibtrace.estimators._checks import checked
from ibtrace.estimators._inputs import check_pair, each_estimate, few_samples, is_ids
from ibtrace.estimators._ties import check_fields
from ibtrace.numerics.bins import dense_ids
from ibtrace.numerics.distances import Space, is_constant
from ibtrace.numerics.knn import tied_share
from ibtrace.numerics.scale import APART, Scale, check_scale, scale_flags, scaled, words
from ibtrace.runtime.fields import require_types
from ibtrace.types import Estimate, Tags, label


@checked
@dataclass(frozen=True)
class SklearnMI:
    """I(X;Y) by ``mutual_info_classif`` and ``mutual_info_regression``, given in bits.

    scikit-learn takes *one feature at a time*: x and y may have one column each, or be ids.
    Two floats are estimated as in `KSG`'s first variant in the max-norm (Kraskov et al. 2004),
    ids and floats as in `Ross` (2014), two ids by the plug-in Σ p log p(x,y) / p(x)p(y).
    It divides floats by their standard deviations, clips its results at 0, and adds noise of
    1e-10 to floats, seeded by ``seed`` here; where these repeat or tie, the noise decides (flag
    ``ties_jittered``; diagnostic ``tied``, the share of such samples). A variable that never
    varies has 0 bits and scikit-learn is not asked: its noise would be estimated.

    Args:
        k: Which neighbour.
        scale: What each variable is divided by before scikit-learn does, as in `KSG`; only
            ``"rank"`` makes a difference to the estimate.

    Flags: those above; ``clipped`` (the result is exactly 0, so it may have been negative);
    ``constant``; ``few_samples`` (see `KSG`); ``small_classes`` (a class of ids beside
    floats with no more than k samples, where k is lowered); ``singletons_dropped`` (classes of one
    sample, which are left out; ``undefined``, NaN, where one class is left);
    ``scales_apart`` (a standard deviation of more than 10 spreads: outliers set the scale of one
    variable and hide it beside the other; see ``scale="rank"``); ``heavy_tails`` and
    ``extreme_values`` (see `KSG`); ``near_ceiling`` (within 5 % of ψ(N) - ψ(k) - 1/k nats for
    floats, of log2 N for ids).
    Diagnostics: ``tied``; ``ceiling``, the most that it can show: that number, or the lesser
    entropy of the ids. No standard error.

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
    scale: Scale = "variable"

    tags: ClassVar[Tags] = Tags(
        estimand="I(X;Y)",
        reference="scikit-learn; Kraskov et al. 2004, Phys. Rev. E 69; Ross 2014, PLoS ONE 9",
        question="density",
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
        require_types(self)
        check_fields("SklearnMI", self.k, "max", 0)
        check_scale("SklearnMI", self.scale)

    @property
    def estimand(self) -> str:
        """The layer itself, as a continuous variable, at its scale."""
        return f"T as a continuous variable, {words(self.scale)}"

    def __call__(self, x: Tensor, y: Tensor, *, seed: int = 0) -> Estimate:
        """I(x; y) in bits; see the class. Data on other devices are copied to the CPU.

        Args:
            x: ``(..., n, 1)`` floats or ``(..., n)`` ids.
            y: ``(..., n, 1)`` floats or ``(..., n)`` ids.
            seed: Seeds the noise that scikit-learn adds.

        Raises:
            InvalidInput: If x or y is malformed.
            TooFewSamples: If there are not more than k samples, or ids beside floats never repeat.
            Unsupported: If a variable has more than one column.
        """
        check_pair(label(self), x, y, minimum=self.k + 1)
        for role, value in (("x", x), ("y", y)):
            if not is_ids(value) and value.shape[-1] != 1:
                raise Unsupported(
                    f"{label(self)}: {role} has {value.shape[-1]} columns and scikit-learn takes "
                    "one feature at a time; use ksg or ross"
                )
        a, b = (scaled(value, self.scale, "max") for value in (x, y))
        solved = each_estimate(lambda c, d: self._solve(c, d, seed), a.points, b.points)
        flags = scale_flags(a, b)
        flags.pop("scales_apart")  # it divides by deviations, not by our spreads: see _solve
        return solved.flagged(few_samples=few_samples(x, y, self.k), **flags)

    def _solve(self, x: Tensor, y: Tensor, seed: int) -> Estimate:
        n, floats = len(x), [v for v in (x, y) if not is_ids(v)]
        sizes = [torch.bincount(dense_ids(v))[dense_ids(v)] for v in (x, y) if is_ids(v)]
        psi_k, psi_n = torch.tensor([self.k, n], dtype=torch.float64).digamma().tolist()
        most = (psi_n - psi_k - 1 / self.k) / math.log(2) if floats else math.log2(n)
        entropies = [float(-(size / n).log2().double().mean()) for size in sizes]
        constant = is_constant(x) or is_constant(y)
        bits, tied, small, dropped, apart, undefined = 0.0, 0.0, False, 0.0, False, False
        if not constant:
            if floats and sizes:
                small = bool((sizes[0][sizes[0] > 1] <= self.k).any())
                dropped = float((sizes[0] == 1).double().mean())
            tied = max((tied_share(Space(v, "max", 0, seed), self.k) for v in floats), default=0.0)
            apart = any(float(v.std(0, correction=0)) > APART for v in floats)
            ids = [dense_ids(v) for v in (x, y) if is_ids(v)]
            left = ids[0][sizes[0] > 1].unique() if floats and ids else x
            # scikit-learn would say 0: what there is to tell is in the samples that it leaves out
            undefined = dropped > 0 and len(left) == 1
            bits = math.nan if undefined else self._ask(x, y, seed) / math.log(2)
        return Estimate.single(
            bits,
            flags={
                "clipped": bits == 0 and not constant,
                "constant": constant,
                "undefined": undefined,
                "ties_jittered": tied > 0,
                "small_classes": small,
                "singletons_dropped": dropped > 0,
                "near_ceiling": bits >= 0.95 * most,
                "scales_apart": apart,
            },
            diagnostics={"tied": tied, "dropped": dropped, "ceiling": min([most, *entropies])},
            device=x.device,
        )

    def _ask(self, x: Tensor, y: Tensor, seed: int) -> float:
        """What scikit-learn says, in nats.

        Raises:
            TooFewSamples: If ids are given beside floats and none repeats.
            InvalidInput: If scikit-learn refuses the data for another reason.
        """
        first, second = (y, x) if is_ids(x) and not is_ids(y) else (x, y)
        if is_ids(second) and not is_ids(first) and int(second.unique().numel()) == len(second):
            raise TooFewSamples(
                f"{label(self)}: each of the {len(second)} classes has one sample; "
                "give ids that repeat, or both variables as floats"
            )
        # here, as scikit-learn takes a second to import
        from sklearn.feature_selection import mutual_info_classif, mutual_info_regression

        estimate = mutual_info_classif if is_ids(second) else mutual_info_regression
        columns, target = (
            (dense_ids(v) if is_ids(v) else v.flatten()).cpu().numpy() for v in (first, second)
        )
        try:
            nats = estimate(
                columns[:, None],
                target,
                discrete_features=is_ids(first),
                n_neighbors=self.k,
                random_state=seed % 2**32,
            )
        except ValueError as error:
            raise InvalidInput(
                f"{label(self)}: scikit-learn refuses the data: {str(error).splitlines()[0]}"
            ) from error
        return float(nats[0])
