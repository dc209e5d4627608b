"""Adapters of PEFT: tensors beside a model that is not in the checkpoint."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from ibtrace.checkpoints._read import adapter_file, few, tensors
from ibtrace.errors import InvalidInput
from ibtrace.runtime.optional import require


def load_adapter(model: nn.Module, folder: Path) -> None:
    """Load an adapter into a model that has one of its form, by PEFT's own loader.

    Args:
        model: A ``PeftModel``, changed in place: the adapter that is active in it.
        folder: The folder that ``save_pretrained`` of such a model wrote.

    Raises:
        InvalidInput: If the model has no adapter, or one of another form.
        MissingDependency: If PEFT is not installed.
    """
    if not hasattr(model, "peft_config"):
        raise InvalidInput(
            f"{folder} holds an adapter of PEFT and not a whole model; give the model with it, "
            f"PeftModel.from_pretrained(model, {str(folder)!r}), or merge it first: python -c "
            f'"from peft import AutoPeftModelForCausalLM as A; A.from_pretrained({str(folder)!r})'
            ".merge_and_unload().save_pretrained('OUT')\""
        )
    peft = require("huggingface", "peft")
    adapter = getattr(model, "active_adapter", "default")
    given = tensors(adapter_file(folder))
    known = peft.get_peft_model_state_dict(model, adapter_name=adapter)
    missing, foreign = (sorted(a.keys() - b.keys()) for a, b in ((known, given), (given, known)))
    other = [name for name in known.keys() & given.keys() if known[name].shape != given[name].shape]
    if missing or foreign or other:
        raise InvalidInput(
            f"{folder} does not fit the adapter of the model; tensors missing from it: "
            f"{few(missing) or 'none'}; without a place: {few(foreign) or 'none'}; of another "
            f"shape: {few(other) or 'none'}"
        )
    peft.set_peft_model_state_dict(model, given, adapter_name=adapter)
