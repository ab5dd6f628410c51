"""Names of objects in S3 among the arguments of a constructor: found, and written as ROOT takes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import ROOT

from dask_root_lambda import s3_names
from dask_root_lambda.protocol.errors import InputError
from lambda_runtime.remote import listing, names, objects
from lambda_runtime.remote.names import S3Name


def internal(name: str) -> str:
    """Return the name that ROOT is given for an object in S3; any other stays."""
    return _internal(s3_names.read(name)) if name.startswith("s3://") else name


def located(args: Sequence[Any]) -> list[Any]:
    """Return a constructor's arguments with names of objects as ROOT takes them; patterns are resolved.

    Raises
    ------
    InputError
        Nothing matches a pattern, or a bucket cannot be listed.
    """
    first, *rest = args
    if isinstance(first, ROOT.RDF.Experimental.RDatasetSpec):
        return [_respecified(first), *rest]
    if rest and isinstance(first, str):
        rest[0] = _located(rest[0])
    return [first, *rest]


def _located(given: Any) -> Any:
    if isinstance(given, str) and _is_far(given):
        found = list(_found([given]))
        return found[0] if len(found) == 1 else found
    if isinstance(given, list | ROOT.std.vector["std::string"]):
        known = [str(name) for name in given]
        return list(_found(known)) if any(map(_is_far, known)) else given
    return given


def _found(given: Iterable[str]) -> Iterator[str]:
    read = s3_names.reader()
    for text in given:
        if not _is_far(text):
            yield text
            continue
        if not text.startswith("s3://"):
            yield text
            continue
        name = read(text)
        matching = listing.matching(name) if name.is_pattern else [name]
        if not matching:
            raise InputError(f"no object matches {text}: check the bucket, the prefix and the pattern")
        yield from map(_internal, matching)


def _is_far(text: str) -> bool:
    return names.is_remote(text)


def _internal(name: S3Name) -> str:
    if not name.bucket or not name.key or name.key.endswith("/"):
        raise InputError(f"{name} names no file: give a bucket and a key, as s3://bucket/events.root")
    return name.internal()


def _respecified(spec: Any) -> Any:
    """Return a dataset specification in which names of objects are as ROOT takes them."""
    copy = ROOT.RDF.Experimental.RDatasetSpec(spec)
    samples = ROOT.Internal.RDF.MoveOutSamples(ROOT.RDF.Experimental.RDatasetSpec(spec))
    friends = copy.GetFriendInfo()
    for sample in samples:
        if sample.GetFileNameGlobs().empty():
            # ROOT looks for what a pattern matches when the sample is made, and only on disks.
            raise InputError(
                f"the sample {sample.GetSampleName()} has no files: nothing matches its pattern. A "
                "specification takes names of objects in S3; RDataFrame takes patterns as well"
            )
    named = [str(name) for sample in samples for name in sample.GetFileNameGlobs()]
    befriended = [str(name) for group in friends.fFriendFileNames for name in group]
    if not any(map(_is_far, (*named, *befriended))):
        return spec
    objects.prepare()
    again = ROOT.RDF.Experimental.RDatasetSpec()
    for sample in samples:
        pairs = zip(sample.GetTreeNames(), sample.GetFileNameGlobs(), strict=True)
        rows = [(str(tree), url) for tree, glob in pairs for url in _found([str(glob)])]
        trees, urls = [tree for tree, _ in rows], [url for _, url in rows]
        again.AddSample((sample.GetSampleName(), trees, urls, sample.GetMetaData()))
    for (_, alias), trees, files in zip(
        friends.fFriendNames, friends.fFriendChainSubNames, friends.fFriendFileNames, strict=True
    ):
        again.WithGlobalFriends(list(trees), list(_found(map(str, files))), alias)
    again.WithGlobalRange((spec.GetEntryRangeBegin(), spec.GetEntryRangeEnd()))
    return again
