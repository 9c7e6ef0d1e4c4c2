"""`python -m gthreadsrv`: the command line without a script on the PATH."""

import sys

from gthreadsrv.cli import main

sys.exit(main())
