"""Entry point of the shell scripts beside it; see README.md."""

import sys

from vmtier.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
