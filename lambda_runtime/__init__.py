"""What runs inside the function: the handler, and ROOT behind it.

Imports `dask_root_lambda.protocol` and nothing else of ours, never dask or distributed.
"""

import os
import time
import warnings

STARTED_S = time.monotonic()
"""When this process began to import the runtime: the start of its INIT phase, as far as it can know."""

IN_FUNCTION = "AWS_LAMBDA_RUNTIME_API" in os.environ
"""Whether this process is an environment of the function, not one that the user has other plans for."""

if IN_FUNCTION:
    # Else it is in the log of every environment, where an error should be.
    warnings.filterwarnings("ignore", message=r"\s*This distribution of ROOT is in alpha stage")
