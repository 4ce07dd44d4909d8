"""`python -m artifact_store`: the artifact store as a process of its own."""

import sys

from artifact_store.main import main

sys.exit(main(sys.argv[1:]))
