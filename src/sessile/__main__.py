"""`python -m sessile` is the command `sessile`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
