"""IAM enforcement: signatures and policies."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from dask_root_lambda.emulator.endpoint import Request
from dask_root_lambda.emulator.policies import is_allowed, names_principal
from dask_root_lambda.emulator.signature import read_signature, verify

from .clouds import Cloud, archive, clients_of, wait_until

pytestmark = pytest.mark.timeout(60)

OwnCloud = Callable[..., Cloud]
POLICY_VERSION = "2012-10-17"


# Signatures, against botocore's own.

TEXT = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=1, max_size=12)


def signed(service: str, method: str, url: str, body: bytes) -> Request:
    """A request as botocore signs it."""
    asked = AWSRequest(method, url, {"Content-Type": "application/json", "X-Odd": "a   b"}, body)
    auth = S3SigV4Auth if service == "s3" else SigV4Auth
    auth(Credentials("AKIAX", "secret", "token"), service, "us-east-1").add_auth(asked)
    prepared = asked.prepare()
    headers = {**{str(k): str(v) for k, v in prepared.headers.items()}, "Host": "127.0.0.1:1234"}
    lower = {name.lower(): value for name, value in headers.items()}
    target = prepared.url.partition("127.0.0.1:1234")[2]
    return Request(method, target, tuple(headers.items()), lower, body, False)


@given(
    service=st.sampled_from(["s3", "lambda", "sqs"]),
    method=st.sampled_from(["GET", "PUT", "POST"]),
    path=st.lists(TEXT, min_size=1, max_size=3),
    query=st.dictionaries(TEXT, TEXT, max_size=3),
    body=st.binary(max_size=20),
)
def test_what_botocore_signs_is_verified(
    service: str, method: str, path: list[str], query: dict[str, str], body: bytes
) -> None:
    """Any path, query and body; another secret or another body is noticed."""
    from urllib.parse import quote, urlencode

    url = "http://127.0.0.1:1234/" + "/".join(quote(part, safe="") for part in path if part.strip("."))
    url += "?" + urlencode(query) if query else ""
    request = signed(service, method, url, body)
    signature = read_signature(request)
    assert signature is not None
    assert (signature.access_key_id, signature.service, signature.session_token) == (
        "AKIAX",
        service,
        "token",
    )
    assert verify(request, signature, "secret")
    assert not verify(request, signature, "other")
    changed = Request(method, request.target, request.header_list, request.headers, body + b"!", False)
    assert not verify(changed, signature, "secret")


# Policies.


def allow(action: Any, resource: Any, effect: str = "Allow") -> dict[str, Any]:
    return {"Statement": [{"Effect": effect, "Action": action, "Resource": resource}]}


@pytest.mark.parametrize(
    ("policies", "allowed"),
    [
        ([], False),
        ([allow("s3:GetObject", "arn:aws:s3:::b/*")], True),
        ([allow(["s3:Put*", "S3:Get*"], ["arn:aws:s3:::a/*", "arn:aws:s3:::b/k?y"])], True),
        ([allow("s3:GetObject", "arn:aws:s3:::b")], False),
        ([allow("s3:PutObject", "*")], False),
        ([allow("*", "*"), allow("s3:*", "arn:aws:s3:::b/*", "Deny")], False),
        ([allow("*", "*"), allow("s3:*", "arn:aws:s3:::c/*", "Deny")], True),
        ([{"Statement": {"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}}], True),
        ([{"Statement": {"Effect": "Allow", "Action": "s3:*", "NotResource": "arn:aws:s3:::b/*"}}], False),
    ],
)
def test_policies_add_up(policies: list[dict[str, Any]], allowed: bool) -> None:
    """Wildcards, lists and negations; a denial wins.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
    """
    assert is_allowed(policies, "s3:GetObject", "arn:aws:s3:::b/key") is allowed


def test_a_resource_that_is_not_known_needs_only_the_action() -> None:
    """Where the emulator cannot tell the resource, an allowance of the action on anything counts."""
    assert is_allowed([allow("ecr:*", "arn:aws:ecr:::repository/x")], "ecr:ListImages", None)
    assert not is_allowed([allow("ecr:Get*", "*")], "ecr:ListImages", None)


def test_a_resources_policy_names_principals() -> None:
    """Everybody, the account, a role for its sessions, a user."""
    session = "arn:aws:sts::123456789012:assumed-role/r/f"
    for named in ("*", {"AWS": "*"}, {"AWS": ["arn:aws:iam::123456789012:role/r"]}, {"AWS": session}):
        assert names_principal({"Principal": named}, session, "123456789012")
    for other in ({"Service": "s3.amazonaws.com"}, {"AWS": "arn:aws:iam::123456789012:role/q"}, None):
        assert not names_principal({"Principal": other}, session, "123456789012")


# The emulator with enforcement.


@pytest.fixture
def cloud(own_cloud: OwnCloud) -> Cloud:  # type: ignore[override]
    """An emulator with enforcement, and clients of its root user."""
    made = own_cloud(iam=True)
    assert made.emulator is not None
    keys = {
        "aws_access_key_id": made.emulator.access_key_id,
        "aws_secret_access_key": made.emulator.secret_access_key,
    }
    made.clients = clients_of(made.emulator, **keys)
    made.lambda_ = made.clients("lambda")
    trust = {
        "Effect": "Allow",
        "Action": "sts:AssumeRole",
        "Principal": {"Service": "lambda.amazonaws.com"},
    }
    document = json.dumps({"Version": POLICY_VERSION, "Statement": [trust]})
    name = made.unique("role")
    made.clients("iam").create_role(RoleName=name, AssumeRolePolicyDocument=document)
    made.role = f"arn:aws:iam::123456789012:role/{name}"
    return made


def make_user(cloud: Cloud, *statements: dict[str, Any]) -> Callable[[str], Any]:
    """Clients of a new user with these permissions."""
    iam, name = cloud.clients("iam"), f"user-{time.monotonic_ns()}"
    iam.create_user(UserName=name)
    if statements:
        document = json.dumps({"Version": POLICY_VERSION, "Statement": list(statements)})
        iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=document)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    assert cloud.emulator is not None
    return clients_of(
        cloud.emulator, aws_access_key_id=key["AccessKeyId"], aws_secret_access_key=key["SecretAccessKey"]
    )


def code_of(action: Callable[[], Any]) -> str:
    with pytest.raises(ClientError) as error:
        action()
    return str(error.value.response["Error"]["Code"])


def test_the_root_user_may_do_everything(cloud: Cloud) -> None:
    """The key that the emulator makes works for every service, with payloads and odd names."""
    name = cloud.deploy("echo")
    arn = cloud.lambda_.get_function_configuration(FunctionName=name)["FunctionArn"]
    assert cloud.invoke(arn, {"a": 1}, Qualifier="$LATEST").payload == {"a": 1}
    s3, bucket = cloud.clients("s3"), cloud.unique("events")
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="a b/ü+%.bin", Body=b"x")
    assert s3.get_object(Bucket=bucket, Key="a b/ü+%.bin")["Body"].read() == b"x"
    assert cloud.clients("sqs").list_queues()["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_a_bad_signature_is_refused(cloud: Cloud) -> None:
    """403, worded as each service does."""
    assert cloud.emulator is not None
    wrong = clients_of(
        cloud.emulator,
        aws_access_key_id=cloud.emulator.access_key_id,
        aws_secret_access_key="wrong",
    )
    assert code_of(wrong("lambda").list_functions) == "InvalidSignatureException"
    assert code_of(wrong("s3").list_buckets) == "SignatureDoesNotMatch"
    assert code_of(wrong("sqs").list_queues) == "InvalidSignatureException"
    assert code_of(wrong("iam").list_users) == "InvalidSignature"


def test_an_unknown_key_is_refused(cloud: Cloud) -> None:
    """403 UnrecognizedClientException, InvalidAccessKeyId from S3."""
    assert cloud.emulator is not None
    unknown = clients_of(cloud.emulator)
    with pytest.raises(ClientError) as error:
        unknown("lambda").list_functions()
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert error.value.response["Error"]["Code"] == "UnrecognizedClientException"
    assert code_of(unknown("s3").list_buckets) == "InvalidAccessKeyId"


def test_a_user_may_do_what_its_policies_allow(cloud: Cloud) -> None:
    """lambda:InvokeFunction on one function, and nothing else (API_Invoke needs that permission)."""
    allowed, other = cloud.deploy("echo"), cloud.deploy("echo")
    arn = cloud.lambda_.get_function_configuration(FunctionName=allowed)["FunctionArn"]
    client = make_user(
        cloud, {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": [arn, f"{arn}:*"]}
    )("lambda")
    assert client.invoke(FunctionName=allowed, Payload=b"1")["Payload"].read() == b"1"
    assert client.invoke(FunctionName=allowed, Qualifier="$LATEST")["StatusCode"] == 200
    with pytest.raises(ClientError, match="not authorized to perform: lambda:InvokeFunction") as error:
        client.invoke(FunctionName=other)
    assert error.value.response["Error"]["Code"] == "AccessDeniedException"
    assert code_of(client.list_functions) == "AccessDeniedException"


def test_policies_call_cloudwatch_by_its_name(cloud: Cloud) -> None:
    """Requests to it are signed for ``monitoring``.

    https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazoncloudwatch.html
    """
    client = make_user(cloud, {"Effect": "Allow", "Action": "cloudwatch:DescribeAlarms", "Resource": "*"})(
        "cloudwatch"
    )
    assert client.describe_alarms()["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert code_of(lambda: client.delete_alarms(AlarmNames=["mine"])).startswith("AccessDenied")


def test_objects_are_deleted_where_a_policy_allows_it(cloud: Cloud) -> None:
    """Several in one request: each of them has to be allowed."""
    bucket = cloud.unique("results")
    cloud.clients("s3").create_bucket(Bucket=bucket)
    resource = f"arn:aws:s3:::{bucket}/mine & yours/*"
    s3 = make_user(cloud, {"Effect": "Allow", "Action": "s3:DeleteObject", "Resource": resource})("s3")

    def delete(*keys: str) -> Any:
        return s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys]})

    assert "Errors" not in delete("mine & yours/1", "mine & yours/2")
    assert code_of(lambda: delete("mine & yours/1", "other/2")) == "AccessDenied"


def test_a_functions_policy_can_allow_it(cloud: Cloud) -> None:
    """AddPermission for the account lets a user without policies invoke."""
    name = cloud.deploy("echo")
    client = make_user(cloud)("lambda")
    assert code_of(lambda: client.invoke(FunctionName=name)) == "AccessDeniedException"
    cloud.lambda_.add_permission(
        FunctionName=name, StatementId="all", Action="lambda:InvokeFunction", Principal="123456789012"
    )
    assert client.invoke(FunctionName=name)["StatusCode"] == 200


def test_a_function_has_its_roles_permissions(cloud: Cloud) -> None:
    """boto3 in a function may do what the role's policies allow, and no more; STS knows who it is.

    https://docs.aws.amazon.com/lambda/latest/dg/lambda-intro-execution-role.html
    """
    bucket = cloud.unique("results")
    cloud.clients("s3").create_bucket(Bucket=bucket)
    document = {
        "Version": POLICY_VERSION,
        "Statement": [
            {"Effect": "Allow", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{bucket}/mine/*"}
        ],
    }
    cloud.clients("iam").put_role_policy(
        RoleName=cloud.role.rpartition("/")[2], PolicyName="p", PolicyDocument=json.dumps(document)
    )
    name = cloud.deploy("put_object", MemorySize=512, Timeout=20)
    answer = cloud.invoke(name, {"bucket": bucket, "key": "mine/1"})
    assert answer.error is None, answer.payload
    denied = cloud.invoke(name, {"bucket": bucket, "key": "other/1"})
    assert "AccessDenied" in denied.payload["errorMessage"]


@pytest.mark.parametrize("kind", ["destination", "dead letter"])
def test_sending_needs_only_the_permission_to_send(cloud: Cloud, kind: str) -> None:
    """A queue gets results and dead letters of a role that may do sqs:SendMessage, and nothing else.

    https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
    """
    sqs = cloud.clients("sqs")
    url = sqs.create_queue(QueueName=cloud.unique("results"))["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    send = {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": arn}
    document = json.dumps({"Version": POLICY_VERSION, "Statement": [send]})
    role = cloud.role.rpartition("/")[2]
    cloud.clients("iam").put_role_policy(RoleName=role, PolicyName="p", PolicyDocument=document)
    letters = {"DeadLetterConfig": {"TargetArn": arn}} if kind == "dead letter" else {}
    name = cloud.deploy("raise_error", **letters)
    destinations = {} if letters else {"OnFailure": {"Destination": arn}}
    cloud.lambda_.put_function_event_invoke_config(
        FunctionName=name, MaximumRetryAttempts=0, DestinationConfig=destinations
    )
    cloud.invoke(name, {"message": "lost"}, InvocationType="Event")
    found: list[Any] = []

    def arrived() -> bool:
        found.extend(sqs.receive_message(QueueUrl=url).get("Messages", []))
        return bool(found)

    wait_until(arrived)
    assert "lost" in found[0]["Body"]


def test_a_function_knows_who_it_is(own_cloud: OwnCloud) -> None:
    """GetCallerIdentity in a function is a session of its role, named like the function."""
    cloud = own_cloud()
    source = "import boto3\ndef echo(e, c): return boto3.client('sts').get_caller_identity()['Arn']\n"
    name = cloud.deploy("echo", MemorySize=512, Timeout=20)
    cloud.lambda_.update_function_code(FunctionName=name, ZipFile=archive(source))
    assert cloud.invoke(name).payload == f"arn:aws:sts::123456789012:assumed-role/tests/{name}"


def test_presigned_urls_work(cloud: Cloud) -> None:
    """A URL that the root user signed needs no more, and cannot be changed."""
    from urllib.error import HTTPError
    from urllib.request import urlopen

    assert cloud.emulator is not None
    s3 = boto3.client(
        "s3",
        endpoint_url=cloud.emulator.endpoint,
        region_name="us-east-1",
        aws_access_key_id=cloud.emulator.access_key_id,
        aws_secret_access_key=cloud.emulator.secret_access_key,
        config=Config(signature_version="s3v4"),
    )
    bucket = cloud.unique("events")
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="a", Body=b"content")
    s3.put_object(Bucket=bucket, Key="b", Body=b"other")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "a"})
    with urlopen(url, timeout=10) as answer:
        assert answer.read() == b"content"
    with pytest.raises(HTTPError, match="403"):
        urlopen(url.replace(f"/{bucket}/a", f"/{bucket}/b"), timeout=10)
