"""`python -m api_gateway`: the gateway as a process of its own, and what an operator asks of its tables."""

import sys

from api_gateway.main import main

sys.exit(main(sys.argv[1:]))
