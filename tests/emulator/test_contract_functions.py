"""Functions and their settings; the same tests run against real AWS with ``--real-aws``."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from .clouds import Cloud

pytestmark = pytest.mark.timeout(120)


def test_a_new_function_has_lambdas_defaults(cloud: Cloud) -> None:
    """128 MB, 3 s, 512 MB of /tmp, text logs in the function's own group.

    https://docs.aws.amazon.com/lambda/latest/api/API_CreateFunction.html
    """
    name = cloud.deploy("echo")
    settings = cloud.lambda_.get_function_configuration(FunctionName=name)
    assert settings["MemorySize"] == 128
    assert settings["Timeout"] == 3
    assert settings["EphemeralStorage"] == {"Size": 512}
    assert settings["SnapStart"] == {"ApplyOn": "None", "OptimizationStatus": "Off"}
    assert settings["LoggingConfig"] == {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{name}"}
    assert settings["TracingConfig"] == {"Mode": "PassThrough"}
    assert (settings["State"], settings["LastUpdateStatus"]) == ("Active", "Successful")
    assert settings["Version"] == "$LATEST"


def test_settings_reach_the_environment(cloud: Cloud) -> None:
    """Variables of the function and of Lambda are in the environment.

    https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
    """
    name = cloud.deploy("describe", MemorySize=256, Environment={"Variables": {"MUONS": "2"}})
    variables = cloud.invoke(name).payload["variables"]
    region = cloud.lambda_.meta.region_name
    expected = {
        "MUONS": "2",
        "AWS_LAMBDA_FUNCTION_NAME": name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{name}",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "_HANDLER": "stub_handlers.describe",
        "TZ": ":UTC",
    }
    assert {name: variables.get(name) for name in expected} == expected
    assert {
        "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_LAMBDA_RUNTIME_API", "AWS_EXECUTION_ENV", "LAMBDA_TASK_ROOT",
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
    } <= set(variables)  # fmt: skip
    assert "[$LATEST]" in variables["AWS_LAMBDA_LOG_STREAM_NAME"]


def test_an_update_replaces_the_environments(cloud: Cloud) -> None:
    """After UpdateFunctionConfiguration, events run in environments with the new settings.

    https://docs.aws.amazon.com/lambda/latest/api/API_UpdateFunctionConfiguration.html
    """
    name = cloud.deploy("describe")
    cloud.invoke(name)
    cloud.lambda_.update_function_configuration(
        FunctionName=name, MemorySize=192, Environment={"Variables": {"NEW": "yes"}}
    )
    cloud.lambda_.get_waiter("function_updated_v2").wait(FunctionName=name)
    payload = cloud.invoke(name).payload
    assert (payload["count"], payload["memory_mb"]) == (1, "192")
    assert payload["variables"]["NEW"] == "yes"


def test_an_update_changes_the_revision(cloud: Cloud) -> None:
    """RevisionId is another after an update.

    https://docs.aws.amazon.com/lambda/latest/api/API_FunctionConfiguration.html
    """
    name = cloud.deploy("echo")
    before = cloud.lambda_.get_function_configuration(FunctionName=name)["RevisionId"]
    cloud.lambda_.update_function_configuration(FunctionName=name, Description="changed")
    cloud.lambda_.get_waiter("function_updated_v2").wait(FunctionName=name)
    after = cloud.lambda_.get_function_configuration(FunctionName=name)
    assert after["RevisionId"] != before
    assert after["Description"] == "changed"


def test_a_deleted_function_is_gone(cloud: Cloud) -> None:
    """DeleteFunction, then 404.

    https://docs.aws.amazon.com/lambda/latest/api/API_DeleteFunction.html
    """
    name = cloud.deploy("echo")
    cloud.lambda_.delete_function(FunctionName=name)
    with pytest.raises(cloud.lambda_.exceptions.ResourceNotFoundException):
        cloud.lambda_.get_function(FunctionName=name)


def test_a_name_is_used_once(cloud: Cloud) -> None:
    """A second CreateFunction of the same name gives 409 ResourceConflictException.

    https://docs.aws.amazon.com/lambda/latest/api/API_CreateFunction.html
    """
    name = cloud.deploy("echo")
    code = {"ZipFile": b"anything"}
    with pytest.raises(cloud.lambda_.exceptions.ResourceConflictException):
        cloud.lambda_.create_function(
            FunctionName=name, Role=cloud.role, Code=code, Runtime="python3.12", Handler="a.b"
        )


def test_functions_are_listed(cloud: Cloud) -> None:
    """ListFunctions has them all, over its pages.

    https://docs.aws.amazon.com/lambda/latest/api/API_ListFunctions.html
    """
    names = {cloud.deploy("echo") for _ in range(3)}
    pages = cloud.lambda_.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 2})
    assert names <= {function["FunctionName"] for page in pages for function in page["Functions"]}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"MemorySize": 10_241}, "10240"),
        ({"Timeout": 901}, "900"),
        ({"EphemeralStorage": {"Size": 10_241}}, "10240"),
    ],
)
def test_settings_have_limits(cloud: Cloud, settings: dict[str, object], words: str) -> None:
    """What is over a quota is refused, and the quota named.

    https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
    """
    with pytest.raises(ClientError, match=words) as error:
        cloud.deploy("echo", **settings)
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"Description": "x" * 257}, "description.*length less than or equal to 256"),
        ({"SnapStart": {"ApplyOn": "Always"}}, "snapStart.applyOn.*enum value set"),
        ({"Architectures": ["sparc"]}, "architectures.*enum value set"),
        ({"Environment": {"Variables": {"1st": "x"}}}, "environment.variables.*regular expression"),
    ],
)
def test_parameters_have_forms(cloud: Cloud, settings: dict[str, object], words: str) -> None:
    """What does not fit the API's model is a ValidationException that names the parameter.

    https://docs.aws.amazon.com/lambda/latest/api/CommonErrors.html
    """
    with pytest.raises(ClientError, match=words) as error:
        cloud.deploy("echo", **settings)
    assert error.value.response["Error"]["Code"] == "ValidationException"


def test_an_archive_needs_runtime_and_handler(cloud: Cloud) -> None:
    """A function that is no image says how it is run.

    https://docs.aws.amazon.com/lambda/latest/api/API_CreateFunction.html
    """
    with pytest.raises(cloud.lambda_.exceptions.InvalidParameterValueException, match="mandatory"):
        cloud.lambda_.create_function(FunctionName="f", Role=cloud.role, Code={"ZipFile": b"x"})


def test_reserved_variables_are_refused(cloud: Cloud) -> None:
    """Variables that Lambda sets itself cannot be set.

    https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
    """
    with pytest.raises(cloud.lambda_.exceptions.InvalidParameterValueException, match="AWS_REGION"):
        cloud.deploy("echo", Environment={"Variables": {"AWS_REGION": "mars-north-1"}})


def test_variables_are_at_most_4_kb(cloud: Cloud) -> None:
    """More than 4 KB of variables are refused.

    https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
    """
    with pytest.raises(cloud.lambda_.exceptions.InvalidParameterValueException, match="4KB"):
        cloud.deploy("echo", Environment={"Variables": {"LONG": "x" * 5000}})


def test_concurrency_is_reserved_and_released(cloud: Cloud) -> None:
    """Put, get and delete of a function's reserved concurrency.

    https://docs.aws.amazon.com/lambda/latest/api/API_PutFunctionConcurrency.html
    """
    name = cloud.deploy("echo")
    cloud.lambda_.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    got = cloud.lambda_.get_function_concurrency(FunctionName=name)
    assert got["ReservedConcurrentExecutions"] == 0
    cloud.lambda_.delete_function_concurrency(FunctionName=name)
    assert "ReservedConcurrentExecutions" not in cloud.lambda_.get_function_concurrency(FunctionName=name)
