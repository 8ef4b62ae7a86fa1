"""`python -m perennial`: the same as the program `perennial`."""

import sys

from perennial.app.entry import main

sys.exit(main())
