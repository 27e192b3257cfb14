"""`python -m imcl`."""

import sys

from imcl.cli import main

sys.exit(main())
