"""``python -m dask_root_lambda.cli``."""

import sys

from dask_root_lambda.cli import main

sys.exit(main())
