"""Settings come from arguments, Dask's configuration and the packaged file, and are checked."""

from __future__ import annotations

from importlib import resources

import dask
import jsonschema
import numpy as np
import pytest
import yaml

from dask_root_lambda.config import Settings, check_execution
from dask_root_lambda.protocol.errors import ConfigurationError


def packaged(name):
    return yaml.safe_load(resources.files("dask_root_lambda").joinpath(name).read_text())


def test_the_packaged_configuration_fits_its_schema():
    """Defaults and schema are kept in step."""
    jsonschema.validate(packaged("dask-root-lambda.yaml"), packaged("dask-root-lambda-schema.yaml"))


def keys(tree, prefix=""):
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from keys(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_every_option_is_documented_in_the_schema_and_read_into_settings():
    """No option without a description, none that nothing reads."""
    schema = packaged("dask-root-lambda-schema.yaml")["properties"]["dask-root-lambda"]
    options = list(keys(packaged("dask-root-lambda.yaml")["dask-root-lambda"]))
    for option in options:
        place = schema
        for part in option.split("."):
            place = place["properties"][part]
        assert place["description"]
    assert {item.metadata["key"] for item in vars(Settings)["__dataclass_fields__"].values()} == set(options)


def test_an_argument_goes_before_the_configuration():
    """Argument, then dask.config, then the packaged default."""
    with dask.config.set({"dask-root-lambda.fan-in": 5}):
        assert Settings.resolve().fan_in == 5
        assert Settings.resolve(fan_in=3).fan_in == 3
    assert Settings.resolve().fan_in == 8


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("concurrency", 0),
        ("concurrency", 10_001),
        ("concurrency", "many"),
        ("concurrency", True),
        ("fan_in", 1),
        ("merge_threads", 0),
        ("timeout_s", 901),
        ("memory_mb", 64),
    ],
)
def test_numbers_out_of_range_are_refused(name, value):
    """The error names the setting, its value and the range."""
    with pytest.raises(ConfigurationError, match=f"{name} is {value!r}: it has to be a whole number from"):
        Settings.resolve(**{name: value})


@pytest.mark.parametrize(
    "name", ["concurrency", "local_threads", "merge_threads", "fan_in", "memory_mb", "max_attempts"]
)
@pytest.mark.parametrize("value", [250.5, 250.0, "250"])
def test_a_count_is_a_whole_number(name, value):
    """Half an invocation is refused, not rounded."""
    with pytest.raises(ConfigurationError, match=f"{name} is {value!r}: it has to be a whole number from"):
        Settings.resolve(**{name: value})


@pytest.mark.parametrize("number", [np.int64(12), np.uint8(12), 12])
def test_whole_numbers_of_any_kind_are_taken(number):
    """What numpy counted is a count as well, and a number of seconds."""
    settings = Settings.resolve(concurrency=number, connect_timeout_s=number)
    assert (settings.concurrency, type(settings.concurrency)) == (12, int)
    assert settings.connect_timeout_s == 12


def test_seconds_may_be_fractions():
    """A time-out is no count."""
    assert Settings.resolve(connect_timeout_s=0.5, start_timeout_s=np.float32(2.5)).start_timeout_s == 2.5


def test_an_unknown_execution_names_the_known_ones():
    """A typo in the execution is an error that lists what there is."""
    with pytest.raises(
        ConfigurationError, match="no execution named 'lamda': use 'lambda', 'emulated', 'local'"
    ):
        Settings.resolve(execution="lamda")
    assert check_execution("local") == "local"


def test_an_unknown_setting_is_refused():
    """A setting that does not exist is not silently ignored."""
    with pytest.raises(ConfigurationError, match="no setting named colour"):
        Settings.resolve(colour="blue")


def test_limits_follow_the_execution():
    """Concurrency is of invocations; local ranges have their own limit."""
    settings = Settings.resolve(concurrency=100, local_threads=3)
    assert (settings.limit("lambda"), settings.limit("emulated"), settings.limit("local")) == (100, 100, 3)
    assert Settings.resolve().limit("lambda") == 1000


@pytest.mark.parametrize(
    ("execution", "endpoint_url", "remote"),
    [
        ("lambda", None, True),
        ("lambda", "https://lambda.eu-west-1.amazonaws.com", True),
        ("lambda", "http://127.0.0.1:4566", False),
        ("lambda", "https://localhost:4566", False),
        ("emulated", None, False),
        ("local", None, False),
    ],
)
def test_functions_of_an_emulator_on_loopback_reach_this_machine(execution, endpoint_url, remote):
    """Only what runs elsewhere cannot read local files."""
    assert Settings.resolve(execution=execution, endpoint_url=endpoint_url).is_remote(execution) is remote


def test_an_emulator_may_come_from_the_environment(monkeypatch):
    """What ``dask-root-lambda emulate`` exports is seen, and what names Lambda goes before the rest."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:4566")
    assert not Settings.resolve().is_remote("lambda")
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", "https://lambda.eu-west-1.amazonaws.com")
    assert Settings.resolve().is_remote("lambda")
