"""Every error and warning that ibtrace raises on purpose, in one tree."""

from __future__ import annotations


class IbtraceError(Exception):
    """Base of every error that ibtrace raises on purpose; its text is one line for a person."""


class InvalidInput(IbtraceError, ValueError):
    """Data that no estimator can use: wrong shape or type, unequal lengths, labels out of range."""


class TooFewSamples(InvalidInput):
    """Fewer samples than the estimator's configuration needs."""


class NonFinite(InvalidInput):
    """NaN or infinite values where numbers are needed."""


class TooLarge(InvalidInput):
    """Data for which an estimator would need more memory than a stated share of the machine's."""


class Unsupported(InvalidInput):
    """A kind of variable (discrete, continuous) or a device that this estimator does not take."""


class UnknownName(IbtraceError, LookupError):
    """A name (layer, estimator, problem, experiment) that does not exist; lists those that do."""


class ConfigError(IbtraceError, ValueError):
    """A configuration with an unknown key, a wrong type or an impossible value."""


class RunError(IbtraceError):
    """A run folder that cannot be read, or that would be overwritten."""


class DownloadError(IbtraceError):
    """A file that could not be fetched, or that arrived damaged."""


class MissingDependency(IbtraceError, ImportError):
    """An optional package is absent; the text says what to install."""


class LeftOut(UserWarning):
    """Layers that nobody named one by one cannot be traced, and are not; says which, and why."""


class ConstantMean(UserWarning):
    """T of a layer is a mean that its normalisation makes the same for every sample."""


class PaddingGuessed(UserWarning):
    """T of layers leaves out, or may hold, padding that nobody stated; says how to state it."""


class LensFailed(UserWarning):
    """A lens that gives no number; says why. The training and the other instruments go on."""


class CostWarning(UserWarning):
    """What was asked for takes long; says how long, and what would be faster."""
