"""The one stateful object: a Tracer looks at a network on schedule and appends to its trace."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ibtrace.capture import Layer, Layers, Look
from ibtrace.capture.networks import Loss, Setting, require_loss
from ibtrace.capture.plan import named_by_modules
from ibtrace.capture.recipe import Recipe
from ibtrace.capture.reduce import require_fitting
from ibtrace.errors import ConfigError, NonFinite, Unsupported
from ibtrace.estimators._inputs import columns
from ibtrace.measure import context, measure
from ibtrace.plane import Rule, Verdict
from ibtrace.probe import Probe
from ibtrace.runtime import distributed
from ibtrace.runtime.arguments import (
    require_instance,
    require_model,
    seed_number,
    several,
    whole,
)
from ibtrace.runtime.generators import preserved_generators
from ibtrace.runtime.schedule import Schedule, Steps, log_spaced, schedule
from ibtrace.trace import Scalar, Trace
from ibtrace.trace.pooling import pooled
from ibtrace.trace.stored import stored_look
from ibtrace.tracer._architecture import architecture, settings
from ibtrace.tracer._cost import foresee
from ibtrace.tracer._defaults import default_estimators
from ibtrace.tracer._distinct import distinct
from ibtrace.tracer._joint import joint
from ibtrace.tracer._keep import Keep
from ibtrace.tracer._lenses import Lenses
from ibtrace.tracer._observer import Networks, Observer
from ibtrace.tracer._opening import cut, open_trace, require_same_t, seen_places
from ibtrace.tracer._schedules import At, scheduled_estimators, scheduled_lenses
from ibtrace.tracer._series import series_of
from ibtrace.tracer._sinks import close_all, write_all
from ibtrace.tracer._streams import Streams, may_add_up
from ibtrace.tracer._unchanged import Unchanged
from ibtrace.tracer._variables import variables
from ibtrace.tracer._weights import Weights
from ibtrace.types import Estimator, Lens, Row, Variable, label, needs_trace, variable_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_log = logging.getLogger("ibtrace")

_MOST = 2**63


class Tracer:
    """Wraps a model and records I(X;T) and I(T;Y) of its layers over training.

    The network as initialised is measured at once, as epoch 0; `snapshot` is called after each
    epoch and looks when the schedule says so; leaving the context (or `close`) measures the last
    epoch. Training is not changed by one bit: see `ibtrace.capture.undisturbed`.

    In distributed training make the tracer and call it on every rank: rank 0 measures and writes,
    the others take part only where the model or the probe is sharded; their trace stays empty.

    Args:
        model: Any torch module, or an `Ensemble` of networks trained together.
        data: The probe: ``(x, y)``, x alone (no labels: I(X;T) alone), a `Probe`, a ``DataLoader``
            or a ``Dataset`` (`Probe.of`). A mapping for y names several targets, each of which is
            measured: ``(x, {"digit": …, "parity": …})``; of a probe sources too, which stand for X.
        estimators: Registry names, instances, or `At(estimator, every)`; several, or one alone.
            None takes what can say something on this probe (`default_estimators`): bins and
            neighbours where X is numbers of few dimensions, else (and of integer tokens) counts,
            two noise scales and class-wise neighbours; ``trace.meta["default_estimators"]`` says
            which and why.
        lenses: What else to measure at the same looks, likewise, or ``"all"``: see
            `ibtrace.lenses`. One that fails says why once (`ibtrace.errors.LensFailed`) and stops
            nothing.
        loss: What the model is trained on, for lenses that ask for it: ``cross_entropy`` (of
            logits), ``nll`` (of probabilities or their logarithms), ``mse``, or a function of
            outputs and labels to the mean over the samples.
        recipe: How the model is trained (`ibtrace.Recipe`), for lenses that ask for it: on which
            samples, by which optimiser, in batches of which size.
        every: When to look: an int, epochs, a callable, or `log_spaced(total, count)`; None is
            log-spaced. Within epochs, or where there are none: `Steps(every)`, and
            ``snapshot(step=…)`` after each step.
        look: How the network is looked at: `ibtrace.Look`, or a choice of layers alone.
        keep: Where the trace is kept, and where its rows also go: `ibtrace.Keep`, or the folder of
            the run; None keeps it in memory.
        seed: The seed this network was trained with; runs of several seeds may share a folder.

    Raises:
        UnknownName: If a layer, a reduction or an estimator does not exist.
        Unsupported: If a layer is a ``torch.jit`` module.
        InvalidInput: If the data cannot be a probe, or a layer does not fit into
            ``look.max_bytes``.
        ConfigError: If an argument is of a type that it cannot have; names it.
        RunError: If the run exists with another probe or another model, already holds this seed,
            or holds another T under the name of a layer (another shape, reduction or width).

    Example:
        >>> model = nn.Sequential(nn.Linear(3, 2), nn.Tanh())
        >>> x, y = torch.randn(64, 3), torch.arange(64) % 2
        >>> with Tracer(model, data=(x, y), estimators=["binning"]) as tracer:
        ...     for epoch in range(1, 4):
        ...         pass  # one epoch of your training, then:
        ...         rows = tracer.snapshot(epoch, train_loss=0.7)
        >>> sorted(tracer.trace.frame().epoch.unique().tolist())
        [0, 1, 2, 3]
    """

    def __init__(
        self,
        model: nn.Module | Networks,
        data: Any,
        *,
        estimators: str | Estimator | At | Iterable[str | Estimator | At] | None = None,
        lenses: str | Lens | At | Iterable[str | Lens | At] = (),
        every: int | Iterable[int] | Schedule | None = None,
        look: Look | Layers = None,
        keep: Keep | str | Path | None = None,
        loss: Loss | None = None,
        recipe: Recipe | None = None,
        seed: int = 0,
    ) -> None:
        self.model = model
        self._epoch = 0
        self._leads = distributed.rank() == 0
        self.keep = Keep.of(keep)
        self.sinks = several(self.keep.sinks) if self._leads else []
        self._closed = False
        self._deferred: list[Estimator] = []
        self.trace = Trace.create()  # until the run's own is open: what sinks are closed with
        with self._closed_if_it_fails():
            require_model(model, Networks)
            require_loss(loss)
            if recipe is not None:
                require_instance("recipe", recipe, Recipe, "an ibtrace.Recipe(data, …)")
            self.every = log_spaced() if every is None else schedule(every)
            self.clock = "step" if isinstance(self.every, Steps) else "epoch"
            given = [seed] if isinstance(model, nn.Module) else model.seeds
            self.seeds = [seed_number("seed", number) for number in given]
            self.look = Look.of(look)
            shard = Probe.of(data)
            if isinstance(model, nn.Module):
                self.look = named_by_modules(model, shard, self.look)
            self._observer = Observer(model=model, shard=shard, look=self.look)
            _warn_of_lazy(model)
            self.probe = self._observer.probe()
            why = None
            if estimators is None:
                estimators, why = default_estimators(self.probe, per_token=self.look.per_token)
            self._estimators = scheduled_estimators(estimators, self.every)
            self._lenses = Lenses(scheduled_lenses(lenses, self.every))
            recipe = (recipe or Recipe()).labelled_like(self.probe)
            if recipe.twins is not None and not self._observer.apart:
                recipe.twins.require_of(self._observer.tensors(), len(self.seeds))
            self._setting = Setting(loss, self.look.forward, self.look.batch_size, recipe)
            self._deferred = [e for e, _ in self._estimators if needs_trace(e)]
            self._store = self._stores()
            streams = not self._store and may_add_up([e for e, _ in self._estimators])
            self._observer = replace(self._observer, streams=streams)
            self._foreseen = False
            self._unchanged = Unchanged()
            self._begun = False
            self._last: _Unmeasured | None = None
            self._place = self._looked = -1
            self._joins = self.keep.resume  # until its first call, or `resume_from`
            self._cut_after: int | None = None
            defaults = {} if why is None else {"default_estimators": why}
            self.trace = self._opened({**defaults, **self.keep.meta})
            self._captured: dict[str, Any] = self.trace.meta.get("captured", {})
            self._variables: dict[str, dict[str, Variable]] = self.trace.meta.get("variables", {})
            self._epochs: dict[str, int] = self.trace.meta.get("epochs", {})
            self._begin()

    def _stores(self) -> bool:
        """Whether activations are stored, for the user or for what needs the whole trace."""
        if self._deferred and self.keep.run is None:
            asks = label(self._deferred[0])
            raise ConfigError(f"{asks} keeps activations on disk: give the tracer keep=FOLDER")
        return self.keep.activations or bool(self._deferred)

    def _begin(self) -> None:
        """Store the probe and look at the network as it is, unless a resumed run holds that."""
        if self._store and self._leads:
            self.trace.save_probe(self.probe)
        begun = bool(seen_places(self.trace, self.seeds, self.look.initial))
        if self._observer.sharded:  # then all ranks look, or none
            begun = distributed.anywhere(begun)
        self._lenses.begun = begun
        if self.look.initial and not begun:
            self.snapshot(0, step=0 if self.clock == "step" else None)
        self._begun = self.look.initial

    def _opened(self, meta: Mapping[str, Any]) -> Trace:
        """The trace of the run; of ranks that only take part, one in memory."""
        run = self.keep.run if self._leads else None
        return open_trace(run, self.seeds, self.keep.resume, self._provenance(meta))

    @classmethod
    def from_checkpoints(
        cls,
        model: nn.Module | str | Path,
        paths: Any = None,
        data: Any = None,
        *,
        epochs: Sequence[int] | Callable[[Any], int] | None = None,
        revisions: Sequence[str] | None = None,
        **arguments: Any,
    ) -> Tracer:
        """Trace a training after the fact: the same rows as a live run's at the same epochs.

        Args:
            model: A network of the same structure; it is copied, not changed. With ``revisions``
                also the name of a Hugging Face repository, or a local folder of such, whose
                configuration then says what the network is.
            paths: A glob (``"ckpts/*.pt"``), or the files and folders; see `ibtrace.checkpoints`.
                With ``revisions`` and a network: the repository. With a repository as ``model`` it
                is left out.
            data: The probe, as for the tracer.
            epochs: The epochs of training done at each checkpoint, in the order of ``paths``, or a
                function of the path; None reads them from the files or their names. Of revisions:
                where each stands, likewise, or the steps that their names say (``step512``).
            revisions: Revisions of the repository, each fetched by the hub's own client when its
                turn comes, and loaded once.
            **arguments: Further arguments of the tracer; ``every`` is every checkpoint by default.

        Returns:
            The finished, closed tracer.

        Raises:
            ConfigError: If there is no checkpoint, or an epoch is missing or there twice.
            InvalidInput: If a checkpoint is not of this model, or a revision cannot be had.
        """
        series = series_of(model, paths, data, epochs, revisions)
        look = replace(Look.of(arguments.pop("look", None)), initial=False)
        tracing = {"every": series.epochs, "look": look, **arguments}
        with cls(series.model, series.data, **tracing) as tracer:
            for state in series.loaded():
                tracer.snapshot(state.epoch, step=state.step)
        if series.told:
            tracer.trace.update_meta(series.told)
        return tracer

    def snapshot(
        self,
        epoch: int | None = None,
        *,
        step: int | None = None,
        force: bool = False,
        **scalars: Any,
    ) -> list[Row]:
        """Look at the network if this epoch, or step, is due; return the rows appended.

        Args:
            epoch: Epochs of training done; where steps are counted, that of the call before by
                default.
            step: Optimiser steps done, stored with the rows; where the schedule is of `Steps`, it
                is what is due.
            force: Look even if the schedule does not ask for it, or once more, in place of the
                numbers that were measured here before.
            **scalars: Numbers to store with the epoch (``train_loss=0.3``); for several networks
                one each, or one for all; with a unit if you give one, ``(0.3, "nats")``. They are
                stored at every call, due or not.

        Returns:
            The rows; none if nothing was due.

        Raises:
            NonFinite: If activations are NaN or infinite; names layer and epoch. What was traced
                before is kept.
            RunError: If the run holds another T under the name of a layer.
            ConfigError: If the tracer is closed, or epoch or step is negative or no whole number,
                the one that is counted is missing, lies before one that was seen, or was measured.
        """
        epoch, step = self._checked(epoch, step)
        scalars, units = _units_apart(scalars)
        scalars_of_all = self._scalars(epoch, step, scalars, units)
        at = self._at(epoch, step)
        if at == 0 and self._begun:
            raise ConfigError(
                f"{self.clock} 0 is the network before training, measured when the tracer was "
                f"made; after the first {self.clock} call snapshot with 1 (log takes 0's numbers)"
            )
        look = force or self.due(at)
        self._require_onward(at, look, force)
        due = [e for e, every in self._estimators if force or at == 0 or every(at)]
        read = self._lenses.due(at, force)
        self._join(at - 1)
        whole_look = len(due) == len(self._estimators) and len(read) == len(self._lenses)
        self._last = None if whole_look else _Unmeasured(epoch, step, Weights(self.model))
        replacing = [(seed, at) for seed in self.seeds] if look and at == self._looked else []
        self._place = at
        with torch.inference_mode(False), preserved_generators():
            rows, certain = self._look(due, read, epoch, step) if look else ([], [])
            if look:
                self._looked = at
                self._lenses.looked(at, read)
            if not self._leads:
                return []
            self._cut()
            self.trace.append(rows, scalars=[*certain, *scalars_of_all], replacing=replacing)
            if rows and not self._foreseen:
                self._foreseen = True
                own = {label(e): (every, 1) for e, every in self._estimators}
                foresee(rows, self.every, own | self._lenses.schedules(), self.clock)
            write_all(self.sinks, self.trace, rows, scalars)
        return rows

    def due(self, at: int) -> bool:
        """Whether `snapshot` would look at the network at this epoch (where it counts, step)."""
        everies = [self.every, *(every for _, every in self._estimators)]
        return at == 0 or any(every(at) for every in everies) or bool(self._lenses.due(at))

    def log(self, epoch: int | None = None, *, step: int | None = None, **scalars: Any) -> None:
        """Store numbers with an epoch (or step) without looking at the network; see `snapshot`.

        Raises:
            ConfigError: If the tracer is closed, or epoch or step is negative or no whole number,
                or the one that is counted is missing.
        """
        epoch, step = self._checked(epoch, step)
        scalars_of_all = self._scalars(epoch, step, *_units_apart(scalars))
        self._join(max(0, self._at(epoch, step) - 1))
        if self._leads:
            self._cut()
            self.trace.append([], scalars=scalars_of_all)

    def resume_from(self, at: int) -> None:
        """Go on with a run from here: what it holds of these seeds after it is forgotten.

        Rows, logged numbers and kept activations of a training that went on before it was stopped
        are not of the one that goes on from an earlier checkpoint. Without this call, and that of
        `load_state_dict`, it goes on from its first `snapshot` or `log`: what is stored there and
        later goes. Call it where not every epoch (or step) is told to the tracer.

        Args:
            at: Epochs of training done in the checkpoint; where steps are counted, steps.

        Raises:
            ConfigError: If it is no whole number, or lies before one that the tracer has seen.
        """
        at = whole(f"resume_from: {self.clock}s done", at)
        if at < max(0, self._place):
            raise ConfigError(
                f"resume_from: {self.clock} {at} lies before {self.clock} {max(0, self._place)}, "
                "which this tracer has seen; make another with Keep(resume=True)"
            )
        self._joins = True
        self._join(at)
        self._cut()

    def _join(self, after: int) -> None:
        """Take down, once, after which place another training's numbers are to be cut."""
        if self._joins:
            self._joins, self._cut_after = False, after

    def _cut(self) -> None:
        """Cut them, before anything of this training is written."""
        if self._cut_after is not None and self._leads:
            cut(self.trace, self.seeds, self._cut_after)
        self._cut_after = None

    def close(self) -> None:
        """Measure the last epoch seen if it was not due, then what needs the whole trace.

        Where the weights are no longer those of that epoch (best ones restored, pruned ones), it is
        not measured, and a warning says so. The sinks are closed in any case, each of them.
        """
        if self._closed:
            return
        with self._closed_if_it_fails():
            if self._last is not None:
                self._measure_last(self._last)
            with torch.inference_mode(False), preserved_generators():
                if self._deferred and self._leads:
                    self._measure_deferred()
        errors = self._close_sinks(failed=False)
        if errors:
            raise errors[0]

    def _measure_last(self, last: _Unmeasured) -> None:
        """Look at the network of the last snapshot, which was not due, if that is still there."""
        # a forward of a model that lies on several ranks needs all of them
        changed = last.weights.changed(None if self._observer.apart else self._observer.forward)
        if self._observer.sharded and distributed.anywhere(bool(changed)):  # all look, or none
            changed = changed or ["those of another rank"]
        if not changed:
            self.snapshot(last.epoch, step=last.step, force=True)
            return
        at = self._at(last.epoch, last.step)
        warnings.warn(
            f"{self.clock} {at}, the last, was not due, and the weights, or what else makes the "
            f"network, have changed since ({', '.join(changed[:3])}{', …' * (len(changed) > 3)}): "
            f"it is not measured; snapshot({self.clock}={at}, force=True) before they change does",
            stacklevel=5,
        )

    def abandon(self, error: BaseException | None = None) -> None:
        """End a trace whose training failed: what was traced stays, and the sinks are closed.

        The network is not measured again: nothing is known of the state it is in. What needs the
        whole trace is measured on the activations that are stored, unless the user interrupted.
        Nothing is raised, so that the training's own error is the one that is seen; what fails
        here as well is logged.

        Args:
            error: Why the training failed, if it did so by an exception.
        """
        if self._closed:
            return
        interrupted = error is not None and not isinstance(error, Exception)
        held = self.trace.path is not None
        if self._deferred and self._leads and held and not interrupted:
            try:
                with torch.inference_mode(False), preserved_generators():
                    self._measure_deferred()
            except Exception:
                _log.exception("not measured, after the training's own error")
        for failed in self._close_sinks(failed=True):
            _log.error("a sink failed, after the training's own error", exc_info=failed)

    def _close_sinks(self, failed: bool) -> list[Exception]:
        """Close every sink, whether or not another fails; returns what they raised."""
        self._closed = True
        with torch.inference_mode(False), preserved_generators():
            return close_all(self.sinks, self.trace, failed)

    @contextmanager
    def _closed_if_it_fails(self) -> Iterator[None]:
        """Abandon the trace if the block raises."""
        try:
            yield
        except BaseException as error:
            self.abandon(error)
            raise

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs: goes into a checkpoint beside the model's own.

        How far the trace is, from where it then goes on, and what lenses remember of earlier looks.
        """
        return {**self._lenses.state_dict(), "place": max(0, self._place)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a resumed run stopped; without it, lenses that look back say so.

        What the run holds after the place where the state was taken is forgotten: `resume_from`.

        Args:
            state: What `state_dict` gave.
        """
        if "place" in state:  # not in checkpoints of earlier versions
            self.resume_from(state["place"])
        view = self._observer.view({}, self._setting, seeds=self.seeds, epoch=0, step=None)
        self._lenses.load_state_dict(state, view.of_state)

    def verdict(self, *, x: str | None = None) -> Verdict:
        """Does each layer compress, a question at a time: see `ibtrace.plane.verdict`.

        Args:
            x: The source of the probe that stands for X; None: the inputs themselves.

        On ranks other than 0, which measure nothing, a verdict on no layer that says so.
        """
        if not self._leads:
            note = f"Rank {distributed.rank()} measures nothing; the verdict is on rank 0."
            return Verdict((), (note,), Rule())
        return self.trace.verdict(x=x)

    def plot(self, *, x: str | None = None, y: str | None = None) -> Figure:
        """The information plane of the trace as a figure: see `ibtrace.Trace.plot`."""
        return self.trace.plot(x=x, y=y)

    def report(self, path: str | Path | None = None) -> Path | None:
        """Write the trace as one HTML file and return its path: see `ibtrace.Trace.report`.

        On ranks other than 0, which measure nothing, no file is written and None is returned.
        """
        return self.trace.report(path) if self._leads else None

    def __enter__(self) -> Tracer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon(error)

    def _checked(self, epoch: int | None, step: int | None) -> tuple[int, int | None]:
        """Epoch and step as ints, if the tracer still takes them."""
        if self._closed:
            raise ConfigError("this tracer is closed; make another with resume=True to go on")
        if self.clock == "step":
            if step is None:
                raise ConfigError(
                    "this trace counts steps (every=Steps(…)): say the optimiser steps done, step="
                )
            epoch = self._epoch if epoch is None else epoch
        epoch = whole("epoch (epochs of training done)", epoch)
        step = None if step is None else whole("step", step)
        if min(epoch, step or 0) < 0:
            raise ConfigError(f"epoch and step must be 0 or more, got {min(epoch, step or 0)}")
        if max(epoch, step or 0) >= _MOST:
            raise ConfigError(f"epoch and step must be below 2**63, got {max(epoch, step or 0)}")
        self._epoch = epoch
        return epoch, step

    def _at(self, epoch: int, step: int | None) -> int:
        """The place on the trace's clock."""
        return epoch if self.clock == "epoch" or step is None else step

    def _require_onward(self, at: int, look: bool, again: bool) -> None:
        """Refuse a place behind the last, and one whose numbers would be replaced unasked."""
        clock = self.clock
        if at < self._place:
            raise ConfigError(
                f"{clock} {at} comes after {clock} {self._place}: a trace goes on in time; count "
                f"the {clock}s of training done, and give a training begun anew a tracer of its own"
            )
        if look and at == self._looked and not again:
            raise ConfigError(
                f"{clock} {at} was measured already; count the {clock}s of training done, or "
                "force=True to measure it once more in place of those numbers"
            )

    def _look(
        self, due: Sequence[Estimator], read: Sequence[Lens], epoch: int, step: int | None
    ) -> tuple[list[Row], list[Scalar]]:
        """The rows of a look, and what is certain of each layer."""
        now = [estimator for estimator in due if estimator not in self._deferred]
        rows: list[Row] = []
        certain: list[Scalar] = []
        seen: dict[str, Layer] = {}
        hold = any("activations" in lens.tags.needs for lens in read)
        stored: list[dict[str, Tensor]] = [{} for _ in self.seeds]
        try:
            for layers in self._observer.looks():
                self._remember(layers)
                certain += distinct(layers, self.probe, self.seeds, epoch, step)
                rows += self._unchanged.measure(
                    {name: layer.values for name, layer in layers.items()},
                    {name: context(name, self._captured[name]) for name in layers},
                    self.probe,
                    now,
                    seeds=self.seeds,
                    epoch=epoch,
                    step=step,
                )
                if hold:
                    seen |= layers
                if self._store:
                    for at, of_seed in enumerate(stored):
                        of_seed.update({name: layer.values[at] for name, layer in layers.items()})
            if self._observer.beyond and now:
                rows += self._stream(now, epoch, step)
        except NonFinite as error:
            raise NonFinite(f"{self.clock} {self._at(epoch, step)}: {error}") from error
        self._say_what_is_traced()
        if self._captured:
            by_module = [of["module"] for of in self._captured.values() if "module" in of]
            names = [*self._captured, *by_module, *self._observer.left_out]
            require_fitting(self.look.reduce, names)
        self._cut()  # now that nothing refuses the look any more
        for seed, of_seed in zip(self.seeds, stored, strict=True):
            if of_seed:
                self.trace.save_activations(self._at(epoch, step), of_seed, seed)
        if read and self._leads:
            rows += self._read(read, seen, epoch, step)
        if self._store and self._leads and self.clock == "step":
            self._epochs[str(step)] = epoch
            self.trace.update_meta({"epochs": self._epochs})
        return rows, certain

    def _stream(self, due: Sequence[Estimator], epoch: int, step: int | None) -> list[Row]:
        """The rows of the layers that are too large to be held."""
        streams = Streams(self._observer, self.probe, due, self.seeds[0])
        layers = streams.layers()
        if not self._leads:
            return []
        self._remember({n: layer.map(lambda values: values[None]) for n, layer in layers.items()})
        return streams.rows(layers, epoch, step)

    def _read(
        self, due: Sequence[Lens], seen: Mapping[str, Layer], epoch: int, step: int | None
    ) -> list[Row]:
        """The rows of the lenses that are due."""
        rows = []
        try:
            view = self._observer.view(
                seen, self._setting, seeds=self.seeds, epoch=epoch, step=step
            )
        except Unsupported as error:
            for lens in due:
                self._lenses.note(lens, error)
        else:
            at = self._at(epoch, step)
            rows = self._lenses.read(due, view, self.probe, self._captured, at)
        if self._lenses.failed != self.trace.meta.get("lenses_failed", {}):
            self.trace.update_meta({"lenses_failed": self._lenses.failed})
        return rows

    def _say_what_is_traced(self) -> None:
        """Record what T is of each layer, which are traced by default, which are not, and why."""
        now = {
            "captured": self._captured,
            "variables": self._variables,
            "left_out": self._observer.left_out,
            "layers_note": self._observer.note,
        }
        held = self.trace.meta
        if new := {key: value for key, value in now.items() if value and value != held.get(key)}:
            self.trace.update_meta(new)

    def _remember(self, part: Mapping[str, Layer]) -> None:
        """Take down what T is of each layer, and refuse what the run holds as another T.

        Raises:
            RunError: If a layer of that name is stored with another shape, reduction or width.
        """
        for name, layer in part.items():
            width = columns(layer.values)
            for estimator, _ in self._estimators:
                of_layers = self._variables.setdefault(label(estimator), {})
                of_layers[name] = variable_of(estimator, width)
            record = layer.record()
            if (held := self._captured.get(name)) is not None:
                require_same_t(name, held, record)
                continue
            if record["token_inputs"] is not None:
                tokens = self.probe.samples_of(tuple(record["token_inputs"]))
                record["input_entropy"] = tokens.input_entropy
            self._captured[name] = record

    def _measure_deferred(self) -> None:
        """Measure the estimators that wanted the whole trace, from the stored activations."""
        rows: list[Row] = []
        for seed in self.seeds:
            places, values = self.trace.activation_epochs(seed), pooled(self.trace, seed)
            measured = self._measured(seed)
            for at in places:
                last = at == places[-1]
                due = [
                    estimator
                    for estimator, every in self._estimators
                    if estimator in self._deferred
                    and (at == 0 or last or every(at) or (label(estimator), at) in measured)
                ]
                look = stored_look(self.trace, [seed], at, values)
                rows += measure(
                    look.activations,
                    look.contexts,
                    self.probe,
                    due,
                    seeds=[seed],
                    epoch=look.epoch,
                    step=look.step,
                )
        self.trace.append(rows)
        write_all(self.sinks, self.trace, rows, {})

    def _scalars(
        self, epoch: int, step: int | None, values: Mapping[str, Any], units: Mapping[str, str]
    ) -> list[Scalar]:
        """One entry for each number and seed."""
        rows = []
        for name, value in values.items():
            try:
                numbers = torch.as_tensor(value, dtype=torch.float64).expand(len(self.seeds))
            except (TypeError, ValueError, RuntimeError, OverflowError) as error:
                many = len(self.seeds)
                of_each = f", or {many}, one for each network" if many > 1 else ""
                got = " ".join(repr(value).split())
                raise ConfigError(f"{name} must be a number{of_each}, got {got}") from error
            rows += [
                Scalar(seed, epoch, "", name, number, step, units.get(name, ""))
                for seed, number in zip(self.seeds, numbers.tolist(), strict=True)
            ]
        return rows

    def _measured(self, seed: int) -> set[tuple[str, int]]:
        """What a resumed run measured before it was stopped: instruments, and where."""
        frame = self.trace.frame()
        frame = frame[frame["seed"] == seed]
        return set(zip(frame["estimator"], frame[self.clock].astype("int64"), strict=True))

    def _provenance(self, meta: Mapping[str, Any]) -> dict[str, Any]:
        forward = self.look.forward
        return {
            "probe_digest": self.probe.digest,
            "samples_digest": self.probe.samples_digest,
            "n": self.probe.n,
            "population": self.probe.population,
            "padding": dict(self.probe.padding),
            "forward": forward and getattr(forward, "__name__", type(forward).__name__),
            "architecture": architecture(self.model),
            "settings": settings(self.model, forward),
            "clock": self.clock,
            "label_entropy": self.probe.label_entropy,
            "input_entropy": self.probe.input_entropy,
            "labels": self.probe.label_kind,
            **joint(self.probe),
            "class_names": self.probe.class_names and list(self.probe.class_names),
            "configurations": {label(e): repr(e) for e, _ in self._estimators},
            "questions": {label(e): e.tags.question for e, _ in self._estimators},
            "lens_configurations": self._lenses.configurations(),
            **variables(self.probe),
            **meta,
        }


@dataclass(frozen=True)
class _Unmeasured:
    """The last snapshot, where not all was due, and what the weights were."""

    epoch: int
    step: int | None
    weights: Weights


def _warn_of_lazy(model: nn.Module | Networks) -> None:
    if isinstance(model, nn.Module) and any(map(is_lazy, model.parameters())):
        warnings.warn(
            "the model has lazy modules, whose weights the tracer's first look draws; for the "
            "training of an untraced run, forward one batch before both",
            stacklevel=3,
        )


def _units_apart(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Numbers, and the units of those that were given as ``(number, unit)``."""
    numbers, units = dict(values), {}
    for name, value in values.items():
        if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], str):
            numbers[name], units[name] = value
    return numbers, units
