"""Forward hooks that live only inside a snapshot: the activations of any torch model.

The rule that avoids most traps: a *separate*, eager, eval-mode forward without gradients over a
fixed, ordered probe, inside which hooks exist and after which nothing is left: no hook, no moved
buffer, no attribute, no consumed random number.
"""

from __future__ import annotations

from ibtrace.capture.calling import Forward as Forward
from ibtrace.capture.calling import call as call
from ibtrace.capture.evidence import Evidence as Evidence
from ibtrace.capture.functional import Functional as Functional
from ibtrace.capture.hooks import capture as capture
from ibtrace.capture.layer import Layer as Layer
from ibtrace.capture.layer import require_finite as require_finite
from ibtrace.capture.listing import LayerTable as LayerTable
from ibtrace.capture.listing import layers as layers
from ibtrace.capture.look import MAX_BYTES as MAX_BYTES
from ibtrace.capture.look import Look as Look
from ibtrace.capture.looking import looks as looks
from ibtrace.capture.looking import reduced as reduced
from ibtrace.capture.looking import snapshot as snapshot
from ibtrace.capture.plan import read_layers as read_layers
from ibtrace.capture.recipe import Recipe as Recipe
from ibtrace.capture.recipe import Twins as Twins
from ibtrace.capture.targets import OUTPUT as OUTPUT
from ibtrace.capture.targets import WHOLE as WHOLE
from ibtrace.capture.targets import Layers as Layers
from ibtrace.capture.targets import Selection as Selection
from ibtrace.capture.targets import Target as Target
from ibtrace.capture.targets import is_activation as is_activation
from ibtrace.capture.targets import is_default as is_default
from ibtrace.capture.targets import named_layers as named_layers
from ibtrace.capture.targets import output_name as output_name
from ibtrace.capture.targets import resolve as resolve
from ibtrace.capture.targets import settled as settled
from ibtrace.capture.targets import silent as silent
from ibtrace.capture.undisturbed import SEED as SEED
from ibtrace.capture.undisturbed import undisturbed as undisturbed
