"""What dask-root-lambda must reach, measured.

``python -m benchmarks`` runs all of them, one after the other, and prints a table; ``python -m
benchmarks.NAME`` runs one: ``dimuon``, ``fleet``, ``rate``, ``payload``, ``merge``, ``cold``,
``snapstart``. Each module says what its target is, how it is measured, and how much noise to expect.
``--json FILE`` writes the figures. A missed target is a figure, not a failure: the exit code is 0.

They need the extra ``emulator``, Linux, and nothing outside of this machine.
"""
