"""Copies of files, streamed: in the user's process, or in a function.

`sources` looks at files and reads parts of them, `stream` makes one flow of these, `buckets`, `disks` and
`xrootd` write it, `transfer` copies one file. `uploads` has objects whose parts several processes send,
`pieces` copies some parts of a file. Memory is bounded: a few blocks for each file under way.
"""
