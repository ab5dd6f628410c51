"""What tests of frames share."""

from __future__ import annotations

import pytest

from dask_root_lambda.rdf import packing


@pytest.fixture
def registered(monkeypatch):
    """Leaves what users register with DistRDF as it was."""
    from ROOT._distrdf.Backends.Base import BaseBackend

    names = ("initialization", "headers", "files", "pcms", "shared_libraries", "strings_to_declare")
    before = {name: vars(BaseBackend)[name] for name in names}
    monkeypatch.setattr(packing, "_refused", [])
    for name in names[1:]:
        setattr(BaseBackend, name, type(before[name])())
    yield
    for name, value in before.items():
        setattr(BaseBackend, name, value)
