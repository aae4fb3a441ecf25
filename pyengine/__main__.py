"""`python -m pyengine` is the command `pyengine`."""

import sys

from pyengine.cli import main

sys.exit(main())
