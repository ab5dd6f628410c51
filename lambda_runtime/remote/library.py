"""The C++ code, declared, with libcurl behind it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import ROOT

from dask_root_lambda.protocol.errors import ConfigurationError
from lambda_runtime import tallies
from lambda_runtime.declaring import declared
from lambda_runtime.once import once
from lambda_runtime.remote import fetcher, files

_FUNCTIONS = {
    "EasyInit": "curl_easy_init",
    "SetOption": "curl_easy_setopt",
    "GetInfo": "curl_easy_getinfo",
    "Reset": "curl_easy_reset",
    "EasyCleanup": "curl_easy_cleanup",
    "ErrorText": "curl_easy_strerror",
    "Append": "curl_slist_append",
    "FreeList": "curl_slist_free_all",
    "MultiInit": "curl_multi_init",
    "MultiSetOption": "curl_multi_setopt",
    "Add": "curl_multi_add_handle",
    "Remove": "curl_multi_remove_handle",
    "Perform": "curl_multi_perform",
    "Poll": "curl_multi_poll",
    "Read": "curl_multi_info_read",
    "MultiCleanup": "curl_multi_cleanup",
}
"""Members of the C++ struct -> libcurl's names."""

_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p)
_callbacks: list[Any] = []
"""Those that C++ was given: they have to live as long."""


@once
def library() -> Any:
    """Declare the code, and let ROOT open what it can; return its namespace.

    Raises
    ------
    ConfigurationError
        There is no libcurl.
    """
    curl = _libcurl()
    tallies.declare()
    declared(fetcher.CODE)
    namespace = declared(files.CODE).remote
    members = (ctypes.c_void_p * len(_FUNCTIONS)).from_address(ROOT.addressof(namespace.gCurl))
    for place, name in enumerate(_FUNCTIONS.values()):
        members[place] = ctypes.cast(getattr(curl, name), ctypes.c_void_p).value
    namespace.gCertificates = _certificates()
    namespace.gAgent = "dask-root-lambda"
    namespace.Look.__release_gil__ = True  # so it is called by `look` only
    namespace.Register()
    os.register_at_fork(after_in_child=namespace.AfterFork)
    return namespace


def look(shown: str, source: str, url: str, headers: Sequence[str], tag: str, offset: int, size: int) -> Any:
    """Ask for a part of an object; other threads go on meanwhile.

    PyROOT keeps a Python string that it passes on in one place for all calls of a function, where a call of
    another thread would replace it: each call gets strings of its own.

    Parameters
    ----------
    shown
        The object's name as users know it.
    source
        Where it comes from; see `dask_root_lambda.protocol.traffic.Traffic.key`.
    url
        Where it is.
    headers
        Sent with the request.
    tag
        ETag that it has to have; empty without.
    offset
        Where the part begins, from 0.
    size
        Bytes to read.
    """
    text = ROOT.std.string
    lines = ROOT.std.vector["std::string"](list(headers))
    return library().Look(text(shown), text(source), text(url), lines, text(tag), offset, size)


def call(resolve: Callable[[str], bool], renew: Callable[[str], bool]) -> None:
    """Let C++ call functions with the name of an object; they answer whether that went well.

    Parameters
    ----------
    resolve
        Looks at an object that is to be opened.
    renew
        Signs anew for one that is read.
    """
    _callbacks[:] = [_Callback(partial(_told, function)) for function in (resolve, renew)]
    library().Call(*(ctypes.cast(each, ctypes.c_void_p).value for each in _callbacks))


def _told(function: Callable[[str], bool], name: bytes) -> int:
    return int(function(name.decode()))


def _libcurl() -> Any:
    try:
        from pycurl import _pycurl
    except ImportError as error:
        raise ConfigurationError(
            f"data in S3 and on web servers is read through libcurl, which is not here: pip install pycurl "
            f"({error})"
        ) from None
    # What a library was linked with is found through it, wherever that lies.
    return ctypes.CDLL(_pycurl.__file__)


def _certificates() -> str:
    from botocore.httpsession import get_cert_path

    named = (os.environ.get(name) for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"))
    return next(filter(None, named), None) or str(get_cert_path(True))
