"""Copies of data sets: `places` finds the files, `plan` says what becomes of each, `run` has them copied.

The bytes flow through `lambda_runtime.copying`.
"""
