"""Functions and their settings; the same tests run against real AWS with ``--real-aws``."""

from __future__ import annotations

import json
from urllib.request import Request, urlopen

import pytest
from botocore.exceptions import ClientError

from .clouds import PYTHON, Cloud, archive

pytestmark = [pytest.mark.contract, pytest.mark.timeout(120)]

OF_LAMBDA = "arn:aws:lambda:us-east-1:123456789012"
OF_EFS = "arn:aws:elasticfilesystem:us-east-1:123456789012"


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
            FunctionName=name, Role=cloud.role, Code=code, Runtime=PYTHON, Handler="a.b"
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


@pytest.mark.parametrize(
    "settings",
    [
        {"Layers": [f"{OF_LAMBDA}:layer:tools:1"]},
        {"VpcConfig": {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}},
        {
            "FileSystemConfigs": [
                {
                    "Arn": f"{OF_EFS}:access-point/fsap-01234567890123456",
                    "LocalMountPath": "/mnt/data",
                }
            ]
        },
        {"CodeSigningConfigArn": f"{OF_LAMBDA}:code-signing-config:csc-01234567890abcdef"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_settings_that_are_not_emulated_are_named(cloud: Cloud, settings: dict[str, object]) -> None:
    """501 rather than a function that does not have what it was made with; empty ones mean nothing."""
    if cloud.real:
        pytest.skip("AWS has them all")
    (name,) = settings
    with pytest.raises(ClientError, match=name) as error:
        cloud.deploy("echo", **settings)
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501
    function = cloud.deploy("echo", Layers=[], VpcConfig={"SubnetIds": [], "SecurityGroupIds": []})
    if name != "CodeSigningConfigArn":
        with pytest.raises(ClientError, match=name):
            cloud.lambda_.update_function_configuration(FunctionName=function, **settings)


@pytest.mark.parametrize("runtime", ["python3.8", "nodejs22.x"])
def test_another_runtime_is_refused(cloud: Cloud, runtime: str) -> None:
    """A function runs in this interpreter; one that asks for another would not be what it says."""
    if cloud.real:
        pytest.skip("AWS has them all")
    name = cloud.deploy("echo")
    with pytest.raises(cloud.lambda_.exceptions.InvalidParameterValueException, match=runtime):
        cloud.lambda_.update_function_configuration(FunctionName=name, Runtime=runtime)
    with pytest.raises(cloud.lambda_.exceptions.InvalidParameterValueException, match=runtime):
        cloud.lambda_.create_function(
            FunctionName="f", Role=cloud.role, Code={"ZipFile": archive()}, Runtime=runtime, Handler="a.b"
        )


def test_what_is_taken_away_is_gone(cloud: Cloud) -> None:
    """Empty variables, dead-letter queue and description are as if they had never been there.

    https://docs.aws.amazon.com/lambda/latest/api/API_UpdateFunctionConfiguration.html
    """
    queue = "arn:aws:sqs:us-east-1:123456789012:letters"
    settings = {"Environment": {"Variables": {"MUONS": "1"}}, "DeadLetterConfig": {"TargetArn": queue}}
    name = cloud.deploy("describe", **settings)
    client = cloud.lambda_
    assert settings.items() <= client.get_function_configuration(FunctionName=name).items()
    client.update_function_configuration(
        FunctionName=name, Environment={"Variables": {}}, DeadLetterConfig={"TargetArn": ""}
    )
    client.get_waiter("function_updated_v2").wait(FunctionName=name)
    assert not settings.keys() & client.get_function_configuration(FunctionName=name).keys()
    assert "MUONS" not in cloud.invoke(name).payload["variables"]


def test_an_image_without_settings_has_none(cloud: Cloud) -> None:
    """An empty ImageConfig takes away what was there."""
    if cloud.real:
        pytest.skip("needs an image")
    client, name = cloud.lambda_, cloud.unique("image")
    client.create_function(
        FunctionName=name, PackageType="Image", Role=cloud.role, Code={"ImageUri": "any/image:1"},
        ImageConfig={"Command": ["a.b"]},
    )  # fmt: skip
    assert "ImageConfigResponse" in client.get_function_configuration(FunctionName=name)
    for empty in ({}, {"Command": [], "EntryPoint": [], "WorkingDirectory": ""}):
        client.update_function_configuration(FunctionName=name, ImageConfig={"Command": ["a.b"]})
        client.update_function_configuration(FunctionName=name, ImageConfig=empty)
        assert "ImageConfigResponse" not in client.get_function_configuration(FunctionName=name)
    client.delete_function(FunctionName=name)


def test_null_is_not_there(cloud: Cloud) -> None:
    """Clients that send what they were not given as null change nothing."""
    if cloud.emulator is None:
        pytest.skip("sends a request that is not signed")
    name = cloud.deploy("echo", Description="kept", Environment={"Variables": {"MUONS": "1"}})
    url = f"{cloud.emulator.endpoint}/2015-03-31/functions/{name}/configuration"
    body = json.dumps({"Description": None, "Environment": None, "SnapStart": {"ApplyOn": None}}).encode()
    with urlopen(Request(url, body, method="PUT"), timeout=10) as answer:
        changed = json.loads(answer.read())
    assert (changed["Description"], changed["Environment"]) == ("kept", {"Variables": {"MUONS": "1"}})


def test_json_logs_have_levels_and_text_logs_have_none(cloud: Cloud) -> None:
    """INFO by default; they go with the format.

    https://docs.aws.amazon.com/lambda/latest/api/API_LoggingConfig.html
    """
    name = cloud.deploy("echo", LoggingConfig={"LogFormat": "JSON", "SystemLogLevel": "WARN"})
    client = cloud.lambda_

    def logging() -> dict[str, str]:
        return dict(client.get_function_configuration(FunctionName=name)["LoggingConfig"])

    def change(**settings: str) -> None:
        client.update_function_configuration(FunctionName=name, LoggingConfig=settings)
        client.get_waiter("function_updated_v2").wait(FunctionName=name)

    group = {"LogGroup": f"/aws/lambda/{name}"}
    levels = {"ApplicationLogLevel": "INFO", "SystemLogLevel": "WARN"}
    assert logging() == {"LogFormat": "JSON", **levels, **group}
    change(LogFormat="Text")
    assert logging() == {"LogFormat": "Text", **group}
    change(LogFormat="JSON")
    assert logging() == {"LogFormat": "JSON", **dict.fromkeys(levels, "INFO"), **group}
