"""Whether a function can read a file: it reads a range of it, and tells how that went."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dask_root_lambda import s3_names, s3_regions
from dask_root_lambda.cost.prices import is_priced, transfer_usd_per_gb
from dask_root_lambda.invocation.invokers import Invocation, Invoker
from dask_root_lambda.protocol import wire
from dask_root_lambda.protocol.errors import DeploymentError, InputError, UserCodeError
from dask_root_lambda.protocol.rootfile import local_path
from dask_root_lambda.protocol.traffic import Traffic, of_source
from lambda_runtime import trial
from lambda_runtime.remote import names
from lambda_runtime.trial import Trial

Call = Callable[[tuple[object, ...]], Invocation]
"""Has the function call something: a function, its arguments and its named arguments."""


def read_range(invoker: Invoker, call: Call, url: str, tree: str) -> str:
    """Have the function read a range of a file; say how that went.

    Parameters
    ----------
    invoker
        Of the function.
    call
        Calls something in it.
    url
        The file, as users name it.
    tree
        Name of the TTree or RNTuple; empty for the one with the most entries.

    Raises
    ------
    DaskRootLambdaError
        The file cannot be read, and why.
    """
    if url.startswith("s3://"):
        name = s3_names.read(url)
        if name.is_pattern:
            raise InputError("is a pattern: name one file")
        url = name.internal()
    elif (path := local_path(url)) is not None:
        if invoker.remote:
            raise InputError(
                "a function in AWS cannot read files of this machine: put it into S3, with "
                f"'dask-root-lambda copy {url} s3://BUCKET/PREFIX/'"
            )
        url = str(path)
    try:
        body = call((trial.read_range, (url, tree), {})).reply.body  # type: ignore[union-attr]
    except UserCodeError as error:
        if trial.__name__ not in error.message:
            raise
        raise DeploymentError("the deployment is older than this command: deploy again") from None
    assert body is not None
    assert body.inline is not None
    found: Trial = wire.loads_as(Trial, body.inline)
    return "; ".join(filter(None, (_said(found), _transfer(url, invoker.region))))


def _said(found: Trial) -> str:
    opened = _counted(found.opening)
    said = (
        f"{found.tree} ({found.kind}) has {found.entries:,} entries and {found.columns:,} columns, opened in "
        f"{found.opened_s:.1f} s{f' by {opened}' if opened else ''}"
    )
    if not found.stop:
        return f"{said}; nothing to read"
    read = f"read entries 0 to {found.stop:,} of all columns in {found.read_s:.2f} s"
    taken = _counted(found.traffic)
    if taken:
        rate = sum(each.bytes_read for each in found.traffic) / 1e6 / found.read_s
        return f"{said}; {read} by {taken}, {rate:,.1f} MB/s"
    if found.kind == "RNTuple" and not opened:
        return f"{said}; {read} (of RNTuples on disks ROOT does not tell the bytes)"
    return f"{said}; {read}, which came when it was opened"


def _counted(traffic: Iterable[Traffic]) -> str:
    """Say how many bytes came by how many requests; empty where none did."""
    parts = list(traffic)
    requests = sum(each.gets for each in parts)
    return f"{sum(each.bytes_read for each in parts):,} bytes in {requests:,} requests" if requests else ""


def _transfer(url: str, region: str) -> str:
    """Say what transfer costs from a bucket in another region; empty where it costs nothing."""
    if not is_priced(of_source(names.source(url))):
        return ""
    found = s3_regions.region_of(url)
    if found is None or found == region:
        return ""
    return (
        f"the bucket is in {found}, the function in {region}: transfer costs "
        f"{transfer_usd_per_gb(found, region):g} USD per GB"
    )
