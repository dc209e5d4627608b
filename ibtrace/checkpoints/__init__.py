"""Checkpoints on disk: which there are, at which epoch each was saved, and a model from one.

Read are files of ``torch.save`` (a state dict, or a dictionary that holds one), Lightning's
checkpoints, safetensors, Hugging Face checkpoint folders, whole or in shards, folders of
``torch.distributed.checkpoint`` (as FSDP writes them), adapters of PEFT into a model that has one,
and the revisions of a Hugging Face repository. No file's code is run; what only running code can
load (DeepSpeed's parts) is refused with the command that converts it.

A trace counts epochs of training *done*. A checkpoint's own record comes first:

- a Lightning checkpoint: from its loops' progress, for Lightning's own ``epoch`` is that under
  way, counted from 0 (``epoch=0-step=4.ckpt`` of a first epoch's end is epoch 1);
- any other dictionary, and the header of a safetensors file: the number under ``epoch``, as it is;
- a Hugging Face folder: ``epoch`` in its ``trainer_state.json``.

Only where there is none, the name without its suffix says it: the number after ``epoch`` or
``ep`` (``epoch=3``, ``epoch_3``, ``net-ep3``), else, of a file, the last number, unless it is a
decimal, counts steps or iterations, or is the end of a word (``net-0010`` is 10; ``net-0.53``,
``step-500``, ``resnet18`` and the folder ``checkpoint-500`` say nothing).
"""

from ibtrace.checkpoints._find import Checkpoint as Checkpoint
from ibtrace.checkpoints._find import find as find
from ibtrace.checkpoints._hub import Revision as Revision
from ibtrace.checkpoints._hub import network_of as network_of
from ibtrace.checkpoints._hub import revisions_of as revisions_of
from ibtrace.checkpoints._load import load_into as load_into
from ibtrace.checkpoints._load import state_dict as state_dict
