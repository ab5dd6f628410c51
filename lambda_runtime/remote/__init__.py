"""Data in S3 and on web servers, as ROOT reads it.

`names` says what they are called, `access` signs, `library` has the C++ code that fetches, `objects` looks
at them and lets ROOT open them, `listing` finds what a pattern matches. Nothing is loaded before the first
of them is named.
"""
