"""The page "Lambda" of Dask's dashboard: it shows what an executor does, and steers it.

A worker that has the executor answers with its `state`, as JSON, when it is asked. The scheduler asks while
somebody looks (`feed`), and shows it (`page`). To steer takes the secret (`access`,
`steering`).
"""
