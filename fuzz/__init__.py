"""Differential tests: small RDataFrame programs, run by local ROOT and by this package.

`programs` says what a program is, `generator` makes them, `running` runs one in this process, `workers` runs
one in a process that may crash, and `search` looks for those whose results differ.

``make fuzz`` or ``python -m fuzz`` searches for as long as asked; ``tests/test_fuzz.py`` does for a while.
"""
