"""The networks of the experiments, what quantizes and what injects noise, and their activations."""

from ibtrace.models.language import Decoder as Decoder
from ibtrace.models.networks import CNN as CNN
from ibtrace.models.networks import MLP as MLP
from ibtrace.models.networks import Init as Init
from ibtrace.models.networks import initialise as initialise
