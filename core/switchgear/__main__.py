"""``python -m switchgear``: the command line."""

import sys

try:
    from switchgear.cli import main

    sys.exit(main())
except KeyboardInterrupt:  # while modules were being loaded
    sys.exit(130)
