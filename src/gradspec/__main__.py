"""The command `python -m gradspec`, the same as `gradspec`."""

import sys

from gradspec.command import main

if __name__ == "__main__":
    sys.exit(main())
