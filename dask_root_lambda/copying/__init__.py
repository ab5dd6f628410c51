"""Copies of data sets: `places` finds the files, `plan` says what becomes of each, `run` has them copied.

`large` has one file sent by several workers, `unfinished` remembers how far it was. The bytes flow through
`lambda_runtime.copying`.
"""
