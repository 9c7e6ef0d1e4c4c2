"""`python -m gthreadsrv.ctl` is `gthreadsrvctl`."""

import sys

from gthreadsrv.ctl.cli import main

sys.exit(main())
