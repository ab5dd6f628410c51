"""``--preload dask_root_lambda.dashboard.preload`` of a Dask scheduler: the page is among Dask's own.

Without it the page is there as soon as a worker has the executor, but dask-labextension does not list its
plots.
"""

from dask_root_lambda.dashboard.scheduler import join_dashboard

join_dashboard()
