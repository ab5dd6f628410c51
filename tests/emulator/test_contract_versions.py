"""Versions, aliases and what surrounds functions; also against real AWS with ``--real-aws``."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError

from .clouds import Cloud, archive

pytestmark = [pytest.mark.contract, pytest.mark.timeout(120)]


def publish(cloud: Cloud, name: str, **settings: object) -> str:
    version = cloud.lambda_.publish_version(FunctionName=name, **settings)["Version"]
    cloud.lambda_.get_waiter("published_version_active").wait(FunctionName=name, Qualifier=version)
    return str(version)


def change(cloud: Cloud, name: str, **settings: object) -> None:
    cloud.lambda_.update_function_configuration(FunctionName=name, **settings)
    cloud.lambda_.get_waiter("function_updated_v2").wait(FunctionName=name)


def test_a_version_keeps_its_settings(cloud: Cloud) -> None:
    """A published version does not change with the function.

    https://docs.aws.amazon.com/lambda/latest/dg/configuration-versions.html
    """
    name = cloud.deploy("describe", MemorySize=128)
    version = publish(cloud, name, Description="first")
    change(cloud, name, MemorySize=192)
    old, new = cloud.invoke(name, Qualifier=version), cloud.invoke(name)
    assert (old.payload["memory_mb"], new.payload["memory_mb"]) == ("128", "192")
    assert old.response["ExecutedVersion"] == version == "1"
    assert old.payload["version"] == "1"
    assert old.payload["arn"].endswith(f":{name}:1")
    settings = cloud.lambda_.get_function_configuration(FunctionName=name, Qualifier=version)
    assert settings["Description"] == "first"
    assert settings["FunctionArn"].endswith(f":{name}:1")


def test_nothing_new_makes_no_new_version(cloud: Cloud) -> None:
    """PublishVersion without a change returns the newest version.

    https://docs.aws.amazon.com/lambda/latest/api/API_PublishVersion.html
    """
    name = cloud.deploy("echo")
    assert publish(cloud, name) == publish(cloud, name) == "1"
    change(cloud, name, Description="changed")
    assert publish(cloud, name) == "2"


def test_the_same_code_again_makes_no_new_version(cloud: Cloud) -> None:
    """What counts is code and settings, not that there was an update.

    https://docs.aws.amazon.com/lambda/latest/api/API_PublishVersion.html
    """
    name = cloud.deploy("echo")
    first = publish(cloud, name, Description="of the version")
    cloud.lambda_.update_function_code(FunctionName=name, ZipFile=archive())
    cloud.lambda_.get_waiter("function_updated_v2").wait(FunctionName=name)
    change(cloud, name, Timeout=4)
    change(cloud, name, Timeout=3)
    assert publish(cloud, name) == first
    change(cloud, name, Timeout=4)
    assert publish(cloud, name) == "2"


def test_numbers_are_never_used_again(cloud: Cloud) -> None:
    """Not that of a deleted version, nor those of a function that was deleted and made again.

    https://docs.aws.amazon.com/lambda/latest/dg/configuration-versions.html
    """
    name = cloud.deploy("echo")
    assert publish(cloud, name) == "1"
    cloud.lambda_.delete_function(FunctionName=name, Qualifier="1")
    assert publish(cloud, name) == "2"
    settings = cloud.lambda_.get_function_configuration(FunctionName=name)
    kept = {key: settings[key] for key in ("FunctionName", "Runtime", "Handler", "Role")}
    cloud.lambda_.delete_function(FunctionName=name)
    cloud.lambda_.create_function(**kept, Code={"ZipFile": archive()})
    cloud.lambda_.get_waiter("function_active_v2").wait(FunctionName=name)
    assert publish(cloud, name) == "3"


def test_latest_cannot_be_deleted(cloud: Cloud) -> None:
    """400 for DeleteFunction with $LATEST, and the function stays.

    https://docs.aws.amazon.com/lambda/latest/api/API_DeleteFunction.html
    """
    name = cloud.deploy("echo")
    with pytest.raises(cloud.lambda_.exceptions.InvalidParameterValueException, match="LATEST"):
        cloud.lambda_.delete_function(FunctionName=name, Qualifier="$LATEST")
    assert cloud.invoke(name, 1).payload == 1


def test_versions_are_listed(cloud: Cloud) -> None:
    """ListVersionsByFunction starts with $LATEST.

    https://docs.aws.amazon.com/lambda/latest/api/API_ListVersionsByFunction.html
    """
    name = cloud.deploy("echo")
    publish(cloud, name)
    versions = cloud.lambda_.list_versions_by_function(FunctionName=name)["Versions"]
    assert [version["Version"] for version in versions] == ["$LATEST", "1"]


def test_publishing_checks_what_the_caller_knows(cloud: Cloud) -> None:
    """Another CodeSha256 or RevisionId than that of $LATEST is refused.

    https://docs.aws.amazon.com/lambda/latest/api/API_PublishVersion.html
    """
    name = cloud.deploy("echo")
    with pytest.raises(cloud.lambda_.exceptions.InvalidParameterValueException, match="CodeSHA256"):
        cloud.lambda_.publish_version(FunctionName=name, CodeSha256="other")
    with pytest.raises(cloud.lambda_.exceptions.PreconditionFailedException):
        cloud.lambda_.publish_version(FunctionName=name, RevisionId="00000000-0000-0000-0000-000000000000")


def test_an_alias_is_another_name_for_a_version(cloud: Cloud) -> None:
    """Invoking an alias runs its version; moving it changes which.

    https://docs.aws.amazon.com/lambda/latest/dg/configuration-aliases.html
    """
    name = cloud.deploy("describe")
    first = publish(cloud, name)
    change(cloud, name, Description="second")
    second = publish(cloud, name)
    alias = cloud.lambda_.create_alias(FunctionName=name, Name="live", FunctionVersion=first)
    assert alias["AliasArn"].endswith(f":{name}:live")
    answer = cloud.invoke(name, Qualifier="live")
    assert answer.response["ExecutedVersion"] == first
    assert answer.payload["arn"].endswith(f":{name}:live")
    cloud.lambda_.update_alias(FunctionName=name, Name="live", FunctionVersion=second)
    assert cloud.invoke(f"{name}:live").response["ExecutedVersion"] == second
    assert cloud.lambda_.get_alias(FunctionName=name, Name="live")["FunctionVersion"] == second


def test_an_alias_can_share_its_events_out(cloud: Cloud) -> None:
    """With all the weight on the other version, that one runs.

    https://docs.aws.amazon.com/lambda/latest/dg/configuring-alias-routing.html
    """
    name = cloud.deploy("echo")
    publish(cloud, name)
    change(cloud, name, Description="second")
    publish(cloud, name)
    routing = {"AdditionalVersionWeights": {"2": 1.0}}
    cloud.lambda_.create_alias(FunctionName=name, Name="live", FunctionVersion="1", RoutingConfig=routing)
    assert cloud.lambda_.get_alias(FunctionName=name, Name="live")["RoutingConfig"] == routing
    assert cloud.invoke(name, Qualifier="live").response["ExecutedVersion"] == "2"


def test_aliases_are_listed_and_deleted(cloud: Cloud) -> None:
    """ListAliases, DeleteAlias, and 404 after it.

    https://docs.aws.amazon.com/lambda/latest/api/API_DeleteAlias.html
    """
    name = cloud.deploy("echo")
    for alias in ("b", "a"):
        cloud.lambda_.create_alias(FunctionName=name, Name=alias, FunctionVersion="$LATEST")
    names = [alias["Name"] for alias in cloud.lambda_.list_aliases(FunctionName=name)["Aliases"]]
    assert names == ["a", "b"]
    with pytest.raises(cloud.lambda_.exceptions.ResourceConflictException):
        cloud.lambda_.create_alias(FunctionName=name, Name="a", FunctionVersion="$LATEST")
    cloud.lambda_.delete_alias(FunctionName=name, Name="a")
    with pytest.raises(cloud.lambda_.exceptions.ResourceNotFoundException, match="Cannot find alias"):
        cloud.lambda_.get_alias(FunctionName=name, Name="a")


def test_a_version_in_use_is_not_deleted(cloud: Cloud) -> None:
    """409 while an alias points to it.

    https://docs.aws.amazon.com/lambda/latest/api/API_DeleteFunction.html
    """
    name = cloud.deploy("echo")
    publish(cloud, name)
    cloud.lambda_.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    with pytest.raises(cloud.lambda_.exceptions.ResourceConflictException):
        cloud.lambda_.delete_function(FunctionName=name, Qualifier="1")
    cloud.lambda_.delete_alias(FunctionName=name, Name="live")
    cloud.lambda_.delete_function(FunctionName=name, Qualifier="1")
    with pytest.raises(cloud.lambda_.exceptions.ResourceNotFoundException):
        cloud.invoke(name, Qualifier="1")


def test_new_code_runs(cloud: Cloud) -> None:
    """UpdateFunctionCode replaces what runs, and can publish at once.

    https://docs.aws.amazon.com/lambda/latest/api/API_UpdateFunctionCode.html
    """
    name = cloud.deploy("echo")
    assert cloud.invoke(name, 1).payload == 1
    before = cloud.lambda_.get_function_configuration(FunctionName=name)["CodeSha256"]
    code = archive("def echo(event, context):\n    return 'new'\n")
    updated = cloud.lambda_.update_function_code(FunctionName=name, ZipFile=code, Publish=True)
    assert updated["Version"] == "1"
    assert updated["CodeSha256"] != before
    cloud.lambda_.get_waiter("function_updated_v2").wait(FunctionName=name)
    cloud.lambda_.get_waiter("published_version_active").wait(FunctionName=name, Qualifier="1")
    assert cloud.invoke(name, 1).payload == "new"
    assert cloud.invoke(name, 1, Qualifier="1").payload == "new"


def test_event_settings_are_kept(cloud: Cloud) -> None:
    """Put, get, update, list and delete of a function's event settings.

    https://docs.aws.amazon.com/lambda/latest/api/API_PutFunctionEventInvokeConfig.html
    """
    name = cloud.deploy("echo")
    client = cloud.lambda_
    put = client.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0)
    assert put["FunctionArn"].endswith(f":{name}:$LATEST")
    client.update_function_event_invoke_config(FunctionName=name, MaximumEventAgeInSeconds=60)
    got = client.get_function_event_invoke_config(FunctionName=name)
    assert (got["MaximumRetryAttempts"], got["MaximumEventAgeInSeconds"]) == (0, 60)
    assert (
        len(client.list_function_event_invoke_configs(FunctionName=name)["FunctionEventInvokeConfigs"]) == 1
    )
    client.delete_function_event_invoke_config(FunctionName=name)
    with pytest.raises(client.exceptions.ResourceNotFoundException, match="EventInvokeConfig"):
        client.get_function_event_invoke_config(FunctionName=name)


def test_tags_are_kept(cloud: Cloud) -> None:
    """Tags given at creation and later, in ListTags and GetFunction.

    https://docs.aws.amazon.com/lambda/latest/api/API_TagResource.html
    """
    name = cloud.deploy("echo", Tags={"a": "1"})
    arn = cloud.lambda_.get_function_configuration(FunctionName=name)["FunctionArn"]
    cloud.lambda_.tag_resource(Resource=arn, Tags={"b": "2", "c": "3"})
    cloud.lambda_.untag_resource(Resource=arn, TagKeys=["a", "c"])
    assert cloud.lambda_.list_tags(Resource=arn)["Tags"] == {"b": "2"}
    assert cloud.lambda_.get_function(FunctionName=name)["Tags"] == {"b": "2"}


def test_a_policy_has_statements(cloud: Cloud) -> None:
    """AddPermission, GetPolicy, RemovePermission.

    https://docs.aws.amazon.com/lambda/latest/api/API_AddPermission.html
    """
    name = cloud.deploy("echo")
    client = cloud.lambda_
    add = {"FunctionName": name, "StatementId": "s3", "Action": "lambda:InvokeFunction",
           "Principal": "s3.amazonaws.com", "SourceArn": "arn:aws:s3:::bucket"}  # fmt: skip
    client.add_permission(**add)
    with pytest.raises(client.exceptions.ResourceConflictException):
        client.add_permission(**add)
    (statement,) = json.loads(client.get_policy(FunctionName=name)["Policy"])["Statement"]
    assert statement["Principal"] == {"Service": "s3.amazonaws.com"}
    assert statement["Resource"].endswith(f":function:{name}")
    assert statement["Condition"] == {"ArnLike": {"AWS:SourceArn": "arn:aws:s3:::bucket"}}
    client.remove_permission(FunctionName=name, StatementId="s3")
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_policy(FunctionName=name)


@pytest.mark.parametrize(
    ("settings", "condition"),
    [
        ({"PrincipalOrgID": "o-a1b2c3d4e5"}, {"StringEquals": {"aws:PrincipalOrgID": "o-a1b2c3d4e5"}}),
        (
            {"Action": "lambda:InvokeFunctionUrl", "FunctionUrlAuthType": "NONE"},
            {"StringEquals": {"lambda:FunctionUrlAuthType": "NONE"}},
        ),
        (
            {"Principal": "alexa-appkit.amazon.com", "EventSourceToken": "amzn1.ask.skill.1"},
            {"StringEquals": {"lambda:EventSourceToken": "amzn1.ask.skill.1"}},
        ),
        (
            {"Principal": "s3.amazonaws.com", "SourceAccount": "123456789012", "SourceArn": "arn:aws:s3:::b"},
            {
                "StringEquals": {"AWS:SourceAccount": "123456789012"},
                "ArnLike": {"AWS:SourceArn": "arn:aws:s3:::b"},
            },
        ),
    ],
)
def test_a_statement_keeps_its_conditions(
    cloud: Cloud, settings: dict[str, str], condition: dict[str, object]
) -> None:
    """Each parameter that narrows a permission down is a condition of its statement.

    https://docs.aws.amazon.com/lambda/latest/api/API_AddPermission.html
    """
    name = cloud.deploy("echo")
    wanted = {"Action": "lambda:InvokeFunction", "Principal": "*", **settings}
    cloud.lambda_.add_permission(FunctionName=name, StatementId="s", **wanted)
    (statement,) = json.loads(cloud.lambda_.get_policy(FunctionName=name)["Policy"])["Statement"]
    assert statement["Condition"] == condition


def test_the_account_tells_its_limits(cloud: Cloud) -> None:
    """GetAccountSettings has limits and usage.

    https://docs.aws.amazon.com/lambda/latest/api/API_GetAccountSettings.html
    """
    before = cloud.lambda_.get_account_settings()
    limits = before["AccountLimit"]
    assert limits["UnreservedConcurrentExecutions"] <= limits["ConcurrentExecutions"]
    assert (limits["CodeSizeUnzipped"], limits["CodeSizeZipped"]) == (262_144_000, 52_428_800)
    cloud.deploy("echo")
    assert cloud.lambda_.get_account_settings()["AccountUsage"]["FunctionCount"] >= 1


def test_what_is_not_emulated_is_named(cloud: Cloud) -> None:
    """Operations that the emulator does not have give an error that names those it has."""
    if cloud.real:
        pytest.skip("AWS has them all")
    with pytest.raises(ClientError, match="ListLayers is not emulated"):
        cloud.lambda_.list_layers()
