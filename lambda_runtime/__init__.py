"""What runs inside the function: the handler, and ROOT behind it.

Imports `dask_root_lambda.protocol` and nothing else of ours, never dask or distributed.
"""

import time

STARTED_S = time.monotonic()
"""When this process began to import the runtime: the start of its INIT phase, as far as it can know."""
