"""`python -m scheduler`: the scheduler as a process of its own."""

import sys

from scheduler.main import main

sys.exit(main())
