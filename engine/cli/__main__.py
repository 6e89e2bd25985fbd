"""`python -m camshaft.engine.cli`, which is also what the deepspeed launcher's --module starts."""

import sys

from camshaft.engine.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
