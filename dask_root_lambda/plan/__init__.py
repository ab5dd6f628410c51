"""The Dask graph of a run: its ranges, the tree that merges them, and the steps that its tasks call."""
