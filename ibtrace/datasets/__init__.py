"""Data sets of the experiments, how they are split, and how many seeds draw batches from them."""

from __future__ import annotations

from ibtrace.datasets.batches import Batches as Batches
from ibtrace.datasets.corrupt import corrupt as corrupt
from ibtrace.datasets.corrupt import corrupted as corrupted
from ibtrace.datasets.corrupt import shuffled as shuffled
from ibtrace.datasets.digits import digits as digits
from ibtrace.datasets.idx import read_idx as read_idx
from ibtrace.datasets.labels import Classes as Classes
from ibtrace.datasets.labels import Labels as Labels
from ibtrace.datasets.labels import read_labels as read_labels
from ibtrace.datasets.mnist import mnist as mnist
from ibtrace.datasets.ngrams import NO_NGRAM as NO_NGRAM
from ibtrace.datasets.ngrams import ngrams as ngrams
from ibtrace.datasets.splits import Order as Order
from ibtrace.datasets.splits import split as split
from ibtrace.datasets.text import python_source as python_source
from ibtrace.datasets.tishby import LabelNoise as LabelNoise
from ibtrace.datasets.tishby import label_information as label_information
from ibtrace.datasets.tishby import tishby as tishby
from ibtrace.datasets.types import Dataset as Dataset
