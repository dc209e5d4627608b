"""Breaks planted in every lens, in verdicts and in controls: ``python -m tests.planted_breaks``.

A test that never fails proves nothing. Each entry of `BREAKS` is one wrong formula, sign, factor or
mark in the code of a lens, or of what `OTHERS` names. Run as a program, this file plants one at a
time in a copy of the package, runs the tests that are to notice, and fails if any break survives;
names of lenses, and of others, as arguments choose among them. `tests/test_planted_breaks.py` sees
to it that the list stays true. When first run in full 43 of 45 were caught; one entry named too
weak a test, and one break passed a test that could not tell it (seeds in a circle): both mended,
and caught.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
_COPIED = ("ibtrace", "tests", "configs", "pyproject.toml")
_PASSED, _FAILED = 0, 1  # of pytest; anything else is no verdict


@dataclass(frozen=True)
class Break:
    """One wrong line.

    Args:
        of: The registered name of the lens whose readings it spoils, or one of `OTHERS`.
        file: Where, below ``ibtrace/``.
        source: The text that stands there exactly once.
        broken: What takes its place.
        tests: Of which at least one has to fail: ``file.py::name``, below ``tests/``.
    """

    of: str
    file: str
    source: str
    broken: str
    tests: tuple[str, ...]


OTHERS = (
    "verdict",
    "resolution",
    "multiverse",
    "against",
    "soft_entropy",
    "trust",
    "controls",
    "bound",
    "plots",
    "streams",
    "revisions",
    "ngrams",
    "named",
    "adds_up",
    "read_anew",
    "text",
    "diffusion_spectral",
)
"""What is spoilt beside lenses."""

_MARKS = "test_plots.py::test_every_mark_stands_at_its_bits_with_inputs_across_and_labels_upwards"

BREAKS: tuple[Break, ...] = (
    Break(
        "plots",
        "plots/_plane.py",
        'axes.scatter(good[I_XT], good[I_TY], c=good["epoch"],',
        'axes.scatter(good[I_TY], good[I_XT], c=good["epoch"],',
        (_MARKS,),
    ),
    Break(
        "plots",
        "plots/_plane.py",
        "axes.scatter(bad[I_XT], bad[I_TY], s=9,",
        "axes.scatter(bad[I_TY], bad[I_XT], s=9,",
        (_MARKS,),
    ),
    Break(
        "plots",
        "plots/_plane.py",
        "shown[I_XT],\n            shown[I_TY],",
        "shown[I_TY],\n            shown[I_XT],",
        (_MARKS,),
    ),
    Break(
        "plots",
        "plots/_plane.py",
        'axes.set_xlabel(f"{self.labels[I_XT]}',
        'axes.set_xlabel(f"{self.labels[I_TY]}',
        (_MARKS,),
    ),
    Break(
        "plots",
        "plots/_plane.py",
        "list(np.stack([x, y], axis=-1))",
        "list(np.stack([y, x], axis=-1))",
        ("test_plots.py::test_every_snapshot_is_one_line_through_all_layers",),
    ),
    Break(
        "plots",
        "plots/_plane.py",
        "axes.scatter(seeds[I_XT], seeds[I_TY],",
        "axes.scatter(seeds[I_TY], seeds[I_XT],",
        ("test_plots.py::test_every_mark_of_a_film_stands_at_its_bits",),
    ),
    Break(  # the stream before the block
        "streams",
        "capture/streams.py",
        'names[f"{block.name}{call}"]',
        'names[f"{block.name}{INPUT}{call}"]',
        ("test_residual_stream.py::test_it_is_traced_after_the_embedding_and_after_each_block",),
    ),
    Break(  # the first revision loaded twice
        "revisions",
        "tracer/_series.py",
        "            if at:",
        "            if at >= 0:",
        ("test_hub.py::test_revisions_are_traced_at_their_steps_each_loaded_once",),
    ),
    Break(  # a merge that counts twice
        "adds_up",
        "estimators/_soft_counts.py",
        "self.sums[:k] += other.sums",
        "self.sums[:k] += 2 * other.sums",
        ("test_adds_up.py::test_processes_that_come_together_give_it_too",),
    ),
    Break(
        "adds_up",
        "estimators/_symbol_counts.py",
        "self._hold(other._digests[: other._seen], other._samples)",
        "self._hold(other._digests[: other._seen].repeat(2, 1), other._samples)",
        ("test_adds_up.py::test_processes_that_come_together_give_it_too",),
    ),
    Break(  # an update that forgets the last sample of a batch
        "adds_up",
        "estimators/_soft_counts.py",
        "self._sum += p.sum(0)",
        "self._sum += p[:-1].sum(0)",
        ("test_adds_up.py::test_batches_give_what_all_samples_give",),
    ),
    Break(  # a look whose last batch is not handed on
        "adds_up",
        "capture/streaming.py",
        "self._take(self._shown_name, self.layer(t), at, self._rounding)",
        "at.stop == self._expected or self._take(self._shown_name, self.layer(t), at, None)",
        ("test_adds_up.py::test_every_look_streams_and_the_weights_stay",),
    ),
    Break(  # the samples of a later rank taken for those of the first
        "adds_up",
        "tracer/_streams.py",
        "here = slice(rows.start + offset, rows.stop + offset)",
        "here = rows",
        ("test_distributed.py::test_statistics_add_up_over_ranks_as_over_batches",),
    ),
    Break(  # the digest of a reading not compared, but where all differ
        "read_anew",
        "probe/read_anew.py",
        "if bool((differ := (hashes != known).any(1)).any()):",
        "if bool((differ := (hashes != known).any(1)).all()):",
        ("test_read_anew.py::test_other_samples_than_before_are_an_error_and_no_number",),
    ),
    Break(  # more samples than before passed over
        "read_anew",
        "probe/read_anew.py",
        "reading.require_end()",
        "assert reading.at",
        ("test_read_anew.py::test_other_samples_than_before_are_an_error_and_no_number",),
    ),
    Break(
        "read_anew",
        "probe/read_anew.py",
        "generators.seed(number)",
        "assert number >= 0",
        ("test_read_anew.py::test_reading_moves_no_generator_and_draws_the_same_each_time",),
    ),
    Break(  # -0.0 another value than 0.0
        "read_anew",
        "probe/read_anew.py",
        "value = value.cpu() + 0.0 if value.is_floating_point() else value.cpu()",
        "value = value.cpu()",
        ("test_read_anew.py::test_ids_are_those_of_equal_values",),
    ),
    Break(
        "read_anew",
        "probe/read_anew.py",
        "once = isinstance(batches, Iterator) or iter(batches) is iter(batches)",
        "once = isinstance(batches, Iterator)",
        ("test_read_anew.py::test_what_is_read_only_once_is_refused",),
    ),
    Break(  # padding counted
        "read_anew",
        "probe/read_anew.py",
        "(value.dim() == 1 or is_mask(name) or marks)",
        "(value.dim() == 1)",
        ("test_read_anew.py::test_masks_are_kept",),
    ),
    Break(  # a call of the data's own taken for a layer
        "read_anew",
        "capture/one_pass.py",
        "if self._reading:",
        "if self._reading and False:",
        ("test_read_anew.py::test_reading_moves_no_generator_and_draws_the_same_each_time",),
    ),
    Break(  # windows, and labels, across a file's end
        "text",
        "datasets/text.py",
        "whole_ones = [t[: len(t) // length * length].view(-1, length) for t in texts]",
        "whole_ones = [(t := torch.cat([*texts]))[: len(t) // length * length].view(-1, length)]",
        ("test_text.py::test_no_window_spans_two_files_and_no_file_is_in_both_parts",),
    ),
    Break(  # the token itself
        "text",
        "datasets/text.py",
        'targets: dict[str, Any] = {"next1": windows[:, 1:].clone()}',
        'targets: dict[str, Any] = {"next1": windows[:, :-1].clone()}',
        ("test_text.py::test_the_next_token_is_the_next_token",),
    ),
    Break(
        "diffusion_spectral",
        "estimators/diffusion_spectral.py",
        "total += len(rows) / len(ids) * diffusion_entropy(part, self.steps)",
        "total += diffusion_entropy(part, self.steps) / len(sizes)",
        ("test_diffusion_spectral.py::test_it_is_the_entropy_of_a_walk_less_that_within_classes",),
    ),
    Break(  # lengths not taken out
        "soft_entropy",
        "numerics/sphere.py",
        "scale = torch.where(lengths[here] > 0, lengths[here], 1) * temperature",
        "scale = torch.full_like(lengths[here], temperature)",
        ("test_soft_entropy.py::test_the_values_of_the_field",),
    ),
    Break(
        "adds_up",
        "tracer/_streams.py",
        "begun_anew.add(name)",
        "begun_anew.discard(name)",
        (
            "test_adds_up.py::test_a_mean_that_differs_by_rounding_alone_is_made_constant_held_or_not",
        ),
    ),
    Break(
        "adds_up",
        "tracer/_screen.py",
        "min(known, key=lambda of: of[0], default=None)",
        "max(known, key=lambda of: of[0], default=None)",
        (
            "test_adds_up.py::test_processes_find_the_same_columns_constant_by_the_first_rows_of_all",
        ),
    ),
    Break(
        "trust",
        "trace/examining.py",
        "    if estimators is None:\n        return used(trace)\n",
        "    if estimators is None:\n        return [make('binning')], {}\n",
        ("test_trust.py::test_what_measured_the_run_is_examined_and_gives_its_numbers",),
    ),
    Break(
        "multiverse",
        "plane/multiverse.py",
        'rows=self.rows[self.rows["question"] == question]',
        "rows=self.rows",
        ("test_multiverse.py::test_shares_are_of_analyses_that_ask_one_thing",),
    ),
    Break(
        "controls",
        "plane/controls.py",
        "if finding.evidence.final.epoch != control.evidence.final.epoch:",
        "if finding.evidence.final.epoch < 0:",
        ("test_controls.py::test_a_control_that_ends_elsewhere_is_no_evidence",),
    ),
    Break(
        "bound",
        "bounds/_anneal.py",
        "    for beta in betas:\n        last = search.at(beta, [last])",
        "    for beta in betas[::-1]:\n        last = search.at(beta, [last])",
        ("test_bottleneck.py::test_annealing_finds_what_random_starts_miss",),
    ),
    Break(
        "bound",
        "bounds/_anneal.py",
        "for _ in range(self.restarts)",
        "for _ in range(1)",
        ("test_bottleneck.py::test_more_restarts_find_no_less",),
    ),
    Break(  # nats, in the record of a trace
        "bound",
        "bounds/_joint.py",
        "h_x = entropy(np.bincount(at_x) / len(at_x))",
        "h_x = entropy(np.bincount(at_x) / len(at_x)) * math.log(2)",
        ("test_bound_of_trace.py::test_a_record_gives_the_curve_of_its_ids",),
    ),
    Break(  # points within their error called faults
        "bound",
        "plane/to_bound.py",
        "np.maximum(y - error, 0)",
        "y",
        ("test_bound_of_trace.py::test_distances_are_those_of_the_points_and_faults_are_called",),
    ),
    Break(
        "bound",
        "numerics/blahut_arimoto.py",
        "of_x / _LN2, of_y / _LN2",
        "of_x, of_y",
        ("test_bottleneck.py::test_a_binary_symmetric_source_is_its_closed_form",),
    ),
    Break(
        "bound",
        "bounds/_curve.py",
        "kept = on_envelope(x, y)",
        "kept = on_envelope(x, y) | True",
        ("test_bottleneck.py::test_a_point_that_the_search_missed_does_not_bend_the_curve",),
    ),
    Break(
        "bound",
        "plane/plane_bound.py",
        "np.stack([x, self.curve.at(x)], -1)",
        "np.stack([x, self.curve.at(x) * 0.6931], -1)",
        ("test_bound_plot.py::test_the_line_is_the_curve_in_bits",),
    ),
    Break(
        "bound",
        "plots/_bound.py",
        "[np.array([*all_of_it, *below])]",
        "[np.array(below)]",
        ("test_bound_plot.py::test_the_shade_is_where_no_t_can_be",),
    ),
    Break(
        "trust",
        "trace/examining.py",
        "some = torch.stack([y[order.to(y.device)] for order in orders[start : start + _BATCH]])",
        "some = torch.stack([y for order in orders[start : start + _BATCH]])",
        ("test_trust.py::test_p_values_of_labels_that_know_nothing_are_uniform",),
    ),
    Break(
        "trust",
        "trace/examining.py",
        '"p": (1 + as_much) / (1 + permutations) if known else math.nan,',
        '"p": as_much / permutations if known else math.nan,',
        ("test_trust.py::test_knowledge_is_told_from_chance_and_p_is_never_0",),
    ),
    Break(
        "trust",
        "trace/examining.py",
        'whole_of = float(entropy(sample_counts(predicted), "none"))',
        "whole_of = float(estimator(t, t).bits)",
        ("test_trust.py::test_what_bins_throw_away_of_the_prediction",),
    ),
    Break(
        "trust",
        "trace/examining.py",
        '"half": order[:half],',
        '"half": order,',
        ("test_trust.py::test_what_is_set_by_the_samples_shows_in_half_of_them",),
    ),
    Break(
        "trust",
        "plane/trust.py",
        '> earlier["bits"].to_numpy() + margin',
        '< earlier["bits"].to_numpy() - margin',
        ("test_trust.py::test_sound_numbers_pass",),
    ),
    Break(
        "trust",
        "plane/trust.py",
        "before = dict(zip(chain[1:], chain, strict=False))",
        "before = dict(zip(chain, chain[1:], strict=False))",
        ("test_trust.py::test_the_chain_is_the_callers",),
    ),
    Break(
        "trust",
        "plane/trust.py",
        "of_label=y / np.where(of_y > 0, of_y, np.nan),",
        "of_label=y / np.where(of_x > 0, of_x, np.nan),",
        ("test_trust.py::test_information_is_normalised_by_its_own_entropy",),
    ),
    Break(
        "trust",
        "plane/trust.py",
        '"at_ceiling": (not meta.get("population", False)) & (x',
        '"at_ceiling": True & (x',
        ("test_trust.py::test_a_ceiling_is_of_samples_and_the_truth_of_a_population",),
    ),
    Break(
        "verdict",
        "plane/layer.py",
        "if not gathered.falls.held_out.lower > rule.least_drop:",
        "if not gathered.falls.held_out.mean > rule.least_drop:",
        ("test_plane.py",),
    ),
    Break(
        "verdict",
        "plane/answer.py",
        'return calls.pop() if len(calls) == 1 else "inconclusive"',
        'return "compresses" if "compresses" in calls else "inconclusive"',
        (
            "test_verdict_questions.py::"
            "test_one_that_leaves_it_open_makes_no_contradiction_and_no_call",
        ),
    ),
    Break(
        "verdict",
        "plane/answer.py",
        "return tuple(finding for finding in findings if finding.question == question)",
        "return tuple(findings)",
        ("test_verdict_questions.py::test_densities_only",),
    ),
    Break(
        "resolution",
        "plane/layer_resolution.py",
        "falls: Mask = enough & (self.held_out[1] > self.rule.least_drop)",
        "falls: Mask = enough & (self.held_out[0] > self.rule.least_drop)",
        ("test_resolution.py::test_a_fall_of_three_seeds_in_ten_is_neither_sure_nor_excluded",),
    ),
    Break(
        "resolution",
        "plane/layer_resolution.py",
        "slopes: Array = (self.mean_x[fine] - self.mean_x[coarse]) / steps",
        "slopes: Array = (self.mean_x[coarse] - self.mean_x[fine]) / steps",
        ("test_resolution.py::test_slopes_are_bits_for_each_halving",),
    ),
    Break(
        "resolution",
        "plane/layer_resolution.py",
        "return near & (self.null <= RANDOM)",
        "return near",
        ("test_resolution.py::test_random_labels_do_not_decide_at_fine_widths",),
    ),
    Break(
        "resolution",
        "plots/_resolution.py",
        "axes.pcolormesh(across, upwards, bits,",
        "axes.pcolormesh(across, upwards, bits[::-1],",
        ("test_resolution.py::test_the_figure_shows_the_map",),
    ),
    Break(
        "resolution",
        "numerics/nested.py",
        "rows = _halved(rows, round(math.log2(width / finer)))",
        "rows = _halved(rows, 1)",
        ("test_nested.py::test_each_width_is_binning_to_the_last_bit",),
    ),
    Break(
        "multiverse",
        "trace/judging.py",
        'best = last.sort_values(kind="stable").index',
        'best = last.sort_values(kind="stable", ascending=False).index',
        ("test_multiverse.py::test_the_best_half_is_of_the_lowest_losses",),
    ),
    Break(
        "multiverse",
        "numerics/variance_shares.py",
        "orders = factorial(len(before)) * factorial(max(0, len(names) - len(before) - 1))",
        "orders = factorial(len(names)) // len(names)",
        ("test_variance_shares.py::test_of_a_part_of_a_grid_shares_are_averages_over_orders",),
    ),
    Break(
        "multiverse",
        "plane/multiverse.py",
        'return rows[~rows["cause"].isin(_NO_CALL)]',
        "return rows",
        ("test_multiverse.py::test_layers_and_looks_are_chosen_and_what_is_declined_is_said",),
    ),
    Break(
        "against",
        "plane/against.py",
        "below = math.hypot(one.mean - one.lower, two.upper - two.mean)",
        "below = one.mean - one.lower + two.upper - two.mean",
        ("test_against.py",),
    ),
    Break(
        "soft_entropy",
        "estimators/soft_entropy.py",
        "self._ratios = means.clamp(min=torch.finfo(p.dtype).tiny).log2() - log_overall",
        "self._ratios = means.clamp(min=torch.finfo(p.dtype).tiny).log() - log_overall",
        ("test_soft_entropy.py::test_the_values_of_the_field",),
    ),
    Break(
        "soft_entropy",
        "numerics/sphere.py",
        "return kappa * math.expm1(above - here) - log_z",
        "return math.expm1(above - here) - log_z",
        ("test_soft_entropy.py::test_the_temperature_solves_its_condition",),
    ),
    Break(
        "ngrams",
        "datasets/ngrams.py",
        "places = range(1, order + 1) if ahead else range(1 - order, 1)",
        "places = range(order) if ahead else range(1 - order, 1)",
        ("test_ngrams.py::test_they_are_the_tuples_of_a_loop",),
    ),
    Break(
        "ngrams",
        "datasets/ngrams.py",
        "whole_tuple &= (_at(texts, place, fill=0) == texts) & inside",
        "whole_tuple &= inside",
        ("test_ngrams.py::test_they_are_the_tuples_of_a_loop",),
    ),
    Break(
        "ngrams",
        "datasets/ngrams.py",
        "whole_tuple &= _at(real, place, fill=False)",
        "whole_tuple &= _at(torch.ones_like(real), place, fill=False)",
        ("test_ngrams.py::test_they_are_the_tuples_of_a_loop",),
    ),
    Break(
        "ngrams",
        "datasets/ngrams.py",
        "ids = dense_ids(ids * len(ids) + dense_ids(column))",
        "ids = ids * (int(column.max()) + 1) + column",
        ("test_ngrams.py::test_no_order_and_no_vocabulary_overflows",),
    ),
    Break(
        "named",
        "probe/padding.py",
        "return real if self.left_out is None else real.to(self.left_out.device) & ~self.left_out",
        "return real if self.left_out is None else ~self.left_out",
        ("test_named.py::test_a_label_of_padding_is_not_counted",),
    ),
    Break(
        "named",
        "probe/padding.py",
        "left_out = torch.stack(known).any(0) if known and stream.length else stream.left_out",
        "left_out = torch.stack(known).all(0) if known and stream.length else stream.left_out",
        ("test_named.py::test_of_tokens_they_are_those_of_the_flat_samples",),
    ),
    Break(
        "named",
        "probe/_probe.py",
        "return [I_XT, *of_y, *(each.quantity for each in self.named if each is not first)]",
        "return [I_XT, *of_y, *(each.quantity for each in self.named[::-1] if each is not first)]",
        ("test_named.py::test_each_is_what_it_is_alone",),
    ),
    Break(
        "named",
        "plane/pairs.py",
        "return {about_source(self.x): I_XT, about_target(self.y): I_TY}",
        "return {about_source(self.x): I_TY, about_target(self.y): I_XT}",
        ("test_named.py::test_two_of_them_are_the_plane",),
    ),
    Break(
        "named",
        "plane/coordinates.py",
        "ratio=(of_y / of_x).where(positive),",
        "ratio=(of_x / of_y).where(positive),",
        ("test_named.py::test_superfluous_information_and_ratio",),
    ),
    Break(
        "named",
        "tracer/_variables.py",
        "if bool(same_as(y, first_alike(x))):",
        "if bool(same_as(x, first_alike(y))):",
        ("test_named.py::test_superfluous_information_needs_x_to_decide_y",),
    ),
    Break(
        "controls",
        "plane/controls.py",
        "elif _same(subject, trace):",
        "elif not trace.meta:",
        ("test_controls.py::test_a_control_that_is_the_subject_is_refused",),
    ),
    Break(
        "controls",
        "training/controls.py",
        "return replace(experiment, data=shuffled(experiment.data))",
        "return replace(experiment, data=replace(experiment.data, name='shuffled'))",
        ("test_controls.py::test_labels_are_those_it_is_trained_on_but_true_of_held_out_samples",),
    ),
    Break(
        "controls",
        "datasets/corrupt.py",
        "y = data.y[torch.randperm(len(data), generator=generator).to(data.y.device)]",
        "y = data.y.flip(0)",
        ("test_controls.py::test_shuffled_labels_are_permuted_and_their_truth_remembered",),
    ),
    Break(
        "controls",
        "training/experiment.py",
        'return self.control is None or self.control.kind != "frozen"',
        'return self.control is None or self.control.kind != "linear"',
        ("test_controls.py::test_a_frozen_network_never_trains_and_looks_at_the_same_epochs",),
    ),
    Break(
        "controls",
        "training/controls.py",
        "> _TOLERANCE * values.abs().max()",
        "> values.abs().max()",
        ("test_controls.py::test_a_control_that_says_linear_and_is_not_is_refused",),
    ),
    Break(
        "controls",
        "training/planning.py",
        '"model.init_args.activation", "linear")',
        '"model.init_args.activation", "relu")',
        (
            "test_controls.py::"
            "test_a_linear_control_is_the_network_of_the_same_widths_and_first_weights",
        ),
    ),
    Break(
        "controls",
        "plane/controls.py",
        'return "control alone" if falls else "neither falls"',
        'return "neither falls"',
        ("test_controls.py::test_falls_are_compared_by_their_intervals",),
    ),
    Break(
        "controls",
        "reports/controls.py",
        "if control_of(trace.meta) is None}",
        "if trace.meta}",
        ("test_controls.py::test_variants_have_controls_of_their_own_and_claims_see_none",),
    ),
    Break(
        "saturation",
        "numerics/saturation.py",
        "> share * half)",
        "> half)",
        ("test_lenses.py::test_saturation_by_hand",),
    ),
    Break(
        "saturation",
        "numerics/saturation.py",
        "(values == values[..., :1, :]).all(-2)",
        "(values == 0).all(-2)",
        ("test_lenses.py::test_saturation_against_its_naive_twin",),
    ),
    Break(
        "geometry",
        "numerics/representations.py",
        "torch.exp(-torch.xlogy(p, p).sum(-1))",
        "1 / p.square().sum(-1)",
        ("test_lens_geometry.py::test_unequal_variances_by_hand",),
    ),
    Break(
        "geometry",
        "numerics/representations.py",
        "return shared / (own[0] * own[1]).sqrt()",
        "return 2 * shared / (own[0] + own[1])",
        ("test_lens_geometry.py::test_cka_forgets_rotation_shift_and_scale_alone",),
    ),
    Break(
        "geometry",
        "lenses/geometry.py",
        "past[TO_PREVIOUS] = previous.activations",
        "past[TO_PREVIOUS] = view.initial.activations",
        ("test_lens_geometry.py::test_likeness_in_a_training_is_that_of_the_stored_activations",),
    ),
    Break(
        "neural_collapse",
        "lenses/neural_collapse.py",
        "means = of.means - of.means.mean(-2, keepdim=True)",
        "means = of.means",
        ("test_lens_neural_collapse.py::test_a_simplex_is_complete_collapse",),
    ),
    Break(
        "neural_collapse",
        "numerics/collapse.py",
        "(own - moved.mean(-2, keepdim=True))",
        "(own - means.mean(-2, keepdim=True))",
        ("test_lens_neural_collapse.py::test_spread_by_hand",),
    ),
    Break(
        "two_nn",
        "numerics/intrinsic_dimension.py",
        "nearest[nearest[:, 0] > 0]",
        "nearest.clamp(min=1e-12)",
        ("test_lens_two_nn.py::test_a_naive_twin_with_repeats",),
    ),
    Break(
        "two_nn",
        "numerics/intrinsic_dimension.py",
        ".log().sum()) / 2",
        ".log().sum())",
        ("test_lens_two_nn.py::test_a_line_and_waves",),
    ),
    Break(
        "capacity",
        "lenses/capacity.py",
        "capacity = 1 / inverse.mean()",
        "capacity = (1 / inverse).mean()",
        ("test_lens_capacity.py::test_classes_are_averaged_as_cones_and_told_one_by_one",),
    ),
    Break(
        "linear_probe",
        "lenses/linear_probe.py",
        "part.take((~first_half).nonzero()[:, 0])",
        "part.take(first_half.nonzero()[:, 0])",
        ("test_lens_linear_probe.py::test_what_was_fitted_is_not_judged",),
    ),
    Break(
        "topology",
        "lenses/topology.py",
        "[drawn(len(members), self.samples, seed)] / unit",
        "[drawn(len(members), self.samples, seed)]",
        ("test_lens_topology.py::test_classes_are_apart_and_averaged",),
    ),
    Break(
        "topology",
        "lenses/topology.py",
        '["dgms"][1]',
        '["dgms"][0][:-1]',
        ("test_lens_topology.py::test_a_circle_has_one_loop",),
    ),
    Break(
        "redundancy",
        "lenses/redundancy.py",
        "low, high = t.amin(1, keepdim=True), t.amax(1, keepdim=True)",
        "low, high = t.amin((1, 2), keepdim=True), t.amax((1, 2), keepdim=True)",
        ("test_lens_redundancy.py::test_units_are_binned_each_on_its_own_range",),
    ),
    Break(
        "redundancy",
        "lenses/redundancy.py",
        "redundancy[layer] = read.over(read.single)",
        "redundancy[layer] = read.over(read.without)",
        ("test_lens_redundancy.py::test_copies_of_the_label_are_all_redundant",),
    ),
    Break(
        "curvature",
        "lenses/curvature.py",
        "LARGEST.name: Reading(values[:, -1], LOSS, flags=exact)",
        "LARGEST.name: Reading(values.abs().amax(1), LOSS, flags=exact)",
        ("test_lens_curvature.py::test_largest_is_by_value_and_not_by_magnitude",),
    ),
    Break(
        "curvature",
        "numerics/spectra.py",
        "for _ in range(2):  # once leaves what rounding left",
        "for _ in range(0):",
        (
            "test_lens_curvature.py::"
            "test_lanczos_makes_no_ghosts_and_finds_all_of_a_multiple_eigenvalue",
        ),
    ),
    Break(
        "edge",
        "numerics/thresholds.py",
        "return (2 + 2 * momentum) / (share * lr)",
        "return 2 / (share * lr)",
        ("test_lens_curvature.py::test_torch_diverges_just_above_the_threshold",),
    ),
    Break(
        "edge",
        "lenses/edge.py",
        "scale = first * ((moments / second).sqrt() + state.adam.eps)",
        "scale = (moments / second).sqrt() + state.adam.eps",
        ("test_lens_curvature.py::test_adams_preconditioner_and_sharpness",),
    ),
    Break(
        "gradient_noise",
        "lenses/gradient_noise.py",
        "unbiased = square - variance / noise.training.samples",
        "unbiased = square",
        ("test_lens_gradient_noise.py::test_a_closed_form_and_the_unbiased_square",),
    ),
    Break(
        "gradient_noise",
        "lenses/gradient_noise.py",
        "snr = mean / spread * (batch or 1) ** 0.5",
        "snr = mean / spread * (batch or 1)",
        ("test_lens_gradient_noise.py::test_modules_have_their_own_parts_by_a_naive_twin",),
    ),
    Break(
        "one_step",
        "lenses/one_step.py",
        "(1 / batch - 1 / view.samples)",
        "(1 / batch)",
        ("test_lens_gradient_noise.py::test_a_quadratic_loss_is_predicted_to_the_end",),
    ),
    Break(
        "ntk",
        "lenses/ntk.py",
        "cosine(centred_kernel(summed), centred_kernel(targets @ targets.mT))",
        "cosine(summed, targets @ targets.mT)",
        ("test_lens_ntk.py::test_reference_networks_to_eight_digits",),
    ),
    Break(
        "ntk",
        "lenses/ntk.py",
        "off = (predicted - errors).square().sum(-1) / 2",
        "off = (predicted - errors).abs().sum(-1) / 2",
        ("test_lens_ntk.py::test_the_residual_is_that_of_descent_by_torch",),
    ),
    Break(
        "pac_bayes",
        "lenses/pac_bayes.py",
        "maurer(error, kl, samples, _FAILS, len(self.scales))",
        "maurer(error, kl, samples, _FAILS, 1)",
        ("test_lens_pac_bayes.py::test_scales_are_paid_for_and_chosen",),
    ),
    Break(
        "pac_bayes",
        "lenses/pac_bayes.py",
        "self._bound(sampled(gibbs, self.draws, _DRAWS_FAIL), kl, seen.samples)",
        "self._bound(gibbs, kl, seen.samples)",
        ("test_lens_pac_bayes.py",),
    ),
    Break(
        "modes",
        "lenses/modes.py",
        "(of_f * of_y) @ of_degree.T",
        "of_f.square() @ of_degree.T",
        ("test_lens_functions.py::test_the_degrees_that_are_learned_after_200_steps",),
    ),
    Break(
        "modes",
        "lenses/modes.py",
        "torch.where(values > _ROUNDING * most[:, None], values, 0.0)",
        "values",
        ("test_lens_functions.py::test_a_label_that_is_not_linear_has_no_singular_mode",),
    ),
    Break(
        "generalization",
        "lenses/generalization.py",
        "LOSS_GAP: _difference(test_loss, train_loss)",
        "LOSS_GAP: _difference(train_loss, test_loss)",
        ("test_lens_functions.py::test_generalization_is_that_of_its_own_samples",),
    ),
    Break(
        "norms",
        "lenses/norms.py",
        "(torch.stack(moved) ** (2 / 3)).sum(0) ** 1.5",
        "torch.stack(moved).sum(0)",
        ("test_lens_functions.py::test_norms",),
    ),
    Break(
        "norms",
        "lenses/norms.py",
        "(LOWEST_MARGIN, 0.01)",
        "(LOWEST_MARGIN, 0.0)",
        ("test_lens_functions.py::test_norms",),
    ),
    Break(
        "norms",
        "lenses/norms.py",
        "flow = flow + link.bias.double().square()[..., None]",
        "flow = flow + link.bias.double().abs()[..., None]",
        ("test_lens_functions.py::test_norms_after_200_steps",),
    ),
    Break(
        "balance",
        "lenses/balance.py",
        "value if link.bias is None else value - link.bias.double().square()",
        "value",
        ("test_lens_functions.py::test_balance_and_its_drift",),
    ),
    Break(
        "feature_alignment",
        "lenses/feature_alignment.py",
        "of_class = slopes - slopes.mean(2, keepdim=True) if classes else slopes",
        "of_class = slopes",
        ("test_lens_functions.py::test_feature_alignment",),
    ),
    Break(
        "sensitivity",
        "lenses/sensitivity.py",
        "(walsh(f).square() * degree).sum(1)",
        "(walsh(f).abs() * degree).sum(1)",
        ("test_lens_functions.py::test_sensitivity",),
    ),
    Break(
        "effective_dimension",
        "lenses/effective_dimension.py",
        "n, seen = training.samples, training.thinned(self.samples, seed)",
        "seen = training.thinned(self.samples, seed)\n        n = seen.samples",
        (
            "test_lens_functions.py::"
            "test_effective_dimension_is_of_the_cross_entropy_and_z_of_all_samples",
        ),
    ),
    Break(
        "invariance",
        "lenses/invariance.py",
        "(1 - means.square().sum(2)).mean(1)",
        "(1 - means.amax(2)).mean(1)",
        ("test_lens_invariance.py::test_reference_networks",),
    ),
    Break(
        "flatness",
        "lenses/flatness.py",
        "torch.cat([own + moved, own - moved])",
        "torch.cat([own + moved, own + moved])",
        ("test_lens_flatness.py::test_a_trained_network_against_the_naive_search",),
    ),
    Break(
        "slice",
        "numerics/landscape.py",
        "return direction * wanted / torch.where",
        "return direction / torch.where",
        (
            "test_lens_slice.py::"
            "test_a_network_that_computes_the_same_with_larger_weights_is_no_flatter",
        ),
    ),
    Break(
        "slice",
        "numerics/landscape.py",
        "line = between(values[0], values[-1], len(values))",
        "line = (values[0] + values[-1]) / 2",
        ("test_lens_slice.py::test_a_barrier_is_over_the_line_between_the_ends",),
    ),
    Break(
        "connectivity",
        "numerics/matching.py",
        "gain = alike.abs() if signs else alike",
        "gain = alike",
        ("test_lens_connectivity.py",),
    ),
    Break(
        "connectivity",
        "lenses/connectivity.py",
        "dict(zip(order, order[1:] + order[:1], strict=True))",
        "dict(zip(range(len(order)), [*range(1, len(order)), 0], strict=True))",
        ("test_lens_connectivity.py::test_partners_are_the_next_seeds_whatever_their_order",),
    ),
    Break(
        "stability",
        "lenses/stability.py",
        "gap = (without.losses[:networks] - left_out.losses)[:, 0]",
        "gap = (left_out.losses - without.losses[:networks])[:, 0]",
        ("test_lens_stability.py::test_one_row_replaced_in_200_steps_of_descent",),
    ),
    Break(
        "stability",
        "lenses/stability.py",
        "travel = (own - flattened(view.initial.parameters)).norm(dim=1)",
        "travel = own.norm(dim=1)",
        ("test_lens_stability.py::test_one_row_replaced_in_200_steps_of_descent",),
    ),
    Break(
        "flatness",
        "lenses/_classes.py",
        "torch.where(scores(view).isnan().flatten(1).any(1), torch.nan, wrong)",
        "wrong",
        (
            "test_lens_flatness.py::test_a_seed_that_diverged_leaves_the_others_theirs",
            "test_lens_connectivity.py::test_a_seed_that_diverged_leaves_the_others_theirs",
        ),
    ),
)


@contextmanager
def copied() -> Iterator[Path]:
    """A copy of the package and its tests, to be broken."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in _COPIED:
            if (ROOT / name).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / name, copy / name, ignore=ignored)
            else:
                shutil.copy(ROOT / name, copy)
        yield copy


@contextmanager
def planted(copy: Path, what: Break) -> Iterator[None]:
    """The copy with one break in it, and whole again afterwards.

    Raises:
        ValueError: If the text does not stand there exactly once.
    """
    file = copy / "ibtrace" / what.file
    whole = file.read_text()
    if (count := whole.count(what.source)) != 1:
        raise ValueError(f"{what.file} has {count} times: {what.source}")
    file.write_text(whole.replace(what.source, what.broken))
    try:
        yield
    finally:
        file.write_text(whole)


def run_tests(copy: Path, tests: Sequence[str]) -> int:
    """What pytest says of tests in a copy: 0 if all pass, 1 if one fails.

    Raises:
        RuntimeError: If it says neither: nothing was tested.
    """
    # no bytecode: two texts of one length in one second look alike to its cache
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    named = [f"tests/{test}" for test in tests]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", *named],
        cwd=copy, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode not in (_PASSED, _FAILED):
        raise RuntimeError(f"pytest {' '.join(named)} ended with {done.returncode}:\n{done.stdout}")
    return done.returncode


def main(names: Sequence[str] = ()) -> int:
    """Plant the breaks of some lenses or others, or of all; 1 if one survives.

    Args:
        names: Registered names of lenses, and of `OTHERS`.
    """
    chosen = [what for what in BREAKS if not names or what.of in names]
    survived = []
    with copied() as copy:
        every = sorted({test for what in chosen for test in what.tests})
        if run_tests(copy, every) == _FAILED:
            print("the tests fail without any break: nothing can be told by them")
            return 1
        for what in chosen:
            with planted(copy, what):
                caught = run_tests(copy, what.tests) == _FAILED
            survived += [] if caught else [what]
            print("caught  " if caught else "SURVIVED", f"{what.of}: {what.source}", flush=True)
    print(f"{len(chosen) - len(survived)} of {len(chosen)} caught")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
