"""``python -m switchgear_certs``."""

import sys

from switchgear_certs.cli import main

sys.exit(main())
