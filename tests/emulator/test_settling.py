"""Functions whose changes take a while, as they do on AWS.

https://docs.aws.amazon.com/lambda/latest/dg/functions-states.html
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from .clouds import Cloud, archive

pytestmark = pytest.mark.timeout(60)

OwnCloud = Callable[..., Cloud]


@pytest.fixture
def cloud(own_cloud: OwnCloud) -> Cloud:  # type: ignore[override]
    """An emulator whose changes take half a minute on a clock that the tests advance."""
    return own_cloud(settle_s=30.0, virtual_clock=True)


def pass_time(cloud: Cloud) -> None:
    assert cloud.emulator is not None
    cloud.emulator.advance(31)


def refused(action: Callable[..., Any], **parameters: Any) -> str:
    with pytest.raises(ClientError) as error:
        action(**parameters)
    response = error.value.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 409
    assert response["Error"]["Code"] == "ResourceConflictException"
    return str(error.value)


def test_a_new_function_is_pending(cloud: Cloud) -> None:
    """It is not run, changed or published before it is active."""
    client, name = cloud.lambda_, cloud.deploy("echo")
    found = client.get_function_configuration(FunctionName=name)
    assert (found["State"], found["StateReasonCode"]) == ("Pending", "Creating")
    assert "Pending" in refused(client.invoke, FunctionName=name)
    assert "Pending" in refused(client.publish_version, FunctionName=name)
    assert "Pending" in refused(client.update_function_configuration, FunctionName=name, Timeout=4)
    pass_time(cloud)
    found = client.get_function_configuration(FunctionName=name)
    assert (found["State"], found.get("StateReasonCode")) == ("Active", None)
    assert cloud.invoke(name, 1).payload == 1


def test_one_change_at_a_time(cloud: Cloud) -> None:
    """While an update is in progress, another one and a version are refused, and the function runs."""
    client, name = cloud.lambda_, cloud.deploy("echo")
    pass_time(cloud)
    updates: tuple[tuple[Callable[..., Any], dict[str, Any]], ...] = (
        (client.update_function_configuration, {"Timeout": 4}),
        (client.update_function_code, {"ZipFile": archive()}),
    )
    for update, settings in updates:
        made = update(FunctionName=name, **settings)
        assert (made["State"], made["LastUpdateStatus"]) == ("Active", "InProgress")
        for action, parameters in (*updates, (client.publish_version, {})):
            assert "in progress" in refused(action, FunctionName=name, **parameters)
        assert cloud.invoke(name, 1).payload == 1
        pass_time(cloud)
        assert client.get_function_configuration(FunctionName=name)["LastUpdateStatus"] == "Successful"
    assert client.publish_version(FunctionName=name)["Version"] == "1"


def test_waiters_wait(own_cloud: OwnCloud) -> None:
    """What boto3 and Terraform wait for happens."""
    cloud = own_cloud(settle_s=0.3)
    client, name = cloud.lambda_, cloud.deploy("echo")
    config = {"Delay": 1, "MaxAttempts": 5}
    client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig=config)
    client.update_function_configuration(FunctionName=name, Timeout=4)
    client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=config)
    assert client.publish_version(FunctionName=name)["State"] == "Active"


def test_a_version_made_with_its_function_is_the_newest(cloud: Cloud) -> None:
    """To become active is no change that would make another version."""
    client, name = cloud.lambda_, cloud.deploy("echo", Publish=True)
    pass_time(cloud)
    assert client.publish_version(FunctionName=name)["Version"] == "1"


def test_a_function_may_be_deleted_at_any_time(cloud: Cloud) -> None:
    """One that is made anew settles in its own time."""
    client, name = cloud.lambda_, cloud.deploy("echo")
    settings = client.get_function_configuration(FunctionName=name)
    client.delete_function(FunctionName=name)
    kept = {key: settings[key] for key in ("FunctionName", "Runtime", "Handler", "Role")}
    assert client.create_function(**kept, Code={"ZipFile": archive()})["State"] == "Pending"
    pass_time(cloud)
    assert cloud.invoke(name, 1).payload == 1
