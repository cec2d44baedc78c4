"""``python -m switchgear``: the command line."""

import sys

from switchgear.cli import main

sys.exit(main())
