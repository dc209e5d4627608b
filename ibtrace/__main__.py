"""``python -m ibtrace`` is ``ibtrace``."""

import sys

from ibtrace.cli import main

if __name__ == "__main__":
    sys.exit(main())
