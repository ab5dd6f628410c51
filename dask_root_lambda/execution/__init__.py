"""What is in flight, what is tried again, and what it took: an executor that knows nothing of Dask."""
