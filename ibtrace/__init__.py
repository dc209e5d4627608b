"""ibtrace: an Information Bottleneck tracer for PyTorch.

Wrap a model in a `Tracer`, train it as you always do, and ask whether it compresses:

    with ibtrace.Tracer(model, data=(x, y)) as tracer:
        for epoch in range(1, epochs + 1):
            train_one_epoch(model)
            tracer.snapshot(epoch)
    print(tracer.verdict())

What is exported is in ``__init__.pyi``, and imported when it is first named: ``import ibtrace``
costs next to nothing, and the command line can say what is wrong before torch is there.
"""

import lazy_loader as _lazy

__getattr__, __dir__, _ = _lazy.attach_stub(__name__, __file__)

__version__ = "0.1.0"
