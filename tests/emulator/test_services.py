"""What moto answers through the same endpoint."""

from __future__ import annotations

import datetime
import io
import ipaddress
import json
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import boto3
import pytest
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .clouds import Cloud, clients_of

pytestmark = pytest.mark.timeout(60)

OwnCloud = Callable[..., Cloud]


def make_certificate(directory: Path) -> Path:
    """A self-signed certificate for the loopback address, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "emulator")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = directory / "emulator.pem"
    path.write_bytes(pem + certificate.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture(params=["http", "https"])
def s3(request: pytest.FixtureRequest, own_cloud: OwnCloud, tmp_path: Path) -> Any:
    """A client of the emulator's S3 with a bucket, over HTTP and over TLS."""
    certificate = None
    if request.param == "http":
        cloud = own_cloud()
        client = cloud.clients("s3")
    else:
        certificate = make_certificate(tmp_path)
        cloud = own_cloud(certificate=certificate)
        emulator = cloud.emulator
        assert emulator is not None
        assert emulator.endpoint.startswith("https://")
        client = clients_of(emulator, verify=str(certificate))("s3")
    client.bucket = cloud.unique("events")
    client.create_bucket(Bucket=client.bucket)
    client.certificate = certificate
    return client


def test_objects_are_kept(s3: Any) -> None:
    """Put, get, ranges, head, list, copy and delete; keys and metadata may hold anything."""
    key = "a b/ü+%/x.bin"
    s3.put_object(Bucket=s3.bucket, Key=key, Body=b"0123456789", Metadata={"run_number": "7"})
    assert s3.get_object(Bucket=s3.bucket, Key=key)["Body"].read() == b"0123456789"
    assert s3.get_object(Bucket=s3.bucket, Key=key, Range="bytes=2-4")["Body"].read() == b"234"
    head = s3.head_object(Bucket=s3.bucket, Key=key)
    assert (head["ContentLength"], head["Metadata"]) == (10, {"run_number": "7"})
    listed = s3.list_objects_v2(Bucket=s3.bucket, Prefix="a b/")["Contents"]
    assert [entry["Key"] for entry in listed] == [key]
    s3.copy_object(Bucket=s3.bucket, Key="copy", CopySource={"Bucket": s3.bucket, "Key": key})
    s3.delete_objects(Bucket=s3.bucket, Delete={"Objects": [{"Key": key}, {"Key": "copy"}]})
    assert "Contents" not in s3.list_objects_v2(Bucket=s3.bucket)


def test_a_missing_object_is_not_found(s3: Any) -> None:
    """GET gives NoSuchKey, HEAD 404."""
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object(Bucket=s3.bucket, Key="nothing")
    with pytest.raises(ClientError, match="404"):
        s3.head_object(Bucket=s3.bucket, Key="nothing")


def test_an_object_is_created_once(s3: Any) -> None:
    """IfNoneMatch="*" makes the second put fail with 412."""
    s3.put_object(Bucket=s3.bucket, Key="once", Body=b"first", IfNoneMatch="*")
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=s3.bucket, Key="once", Body=b"second", IfNoneMatch="*")
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412
    assert s3.get_object(Bucket=s3.bucket, Key="once")["Body"].read() == b"first"


def test_large_objects_go_in_parts(s3: Any) -> None:
    """A multipart upload with checksums arrives whole."""
    data = bytes(range(256)) * 4 * 10_240 * 2
    s3.upload_fileobj(io.BytesIO(data), s3.bucket, "large")
    buffer = io.BytesIO()
    s3.download_fileobj(s3.bucket, "large", buffer)
    assert buffer.getvalue() == data


def test_a_stream_of_unknown_length_arrives(s3: Any) -> None:
    """A body with a checksum trailer is decoded."""
    s3.put_object(Bucket=s3.bucket, Key="stream", Body=io.BytesIO(b"x" * 100_000), ChecksumAlgorithm="SHA256")
    assert s3.get_object(Bucket=s3.bucket, Key="stream")["Body"].read() == b"x" * 100_000


def test_a_presigned_url_needs_no_credentials(s3: Any) -> None:
    """A URL that carries its signature works for any HTTP client."""
    s3.put_object(Bucket=s3.bucket, Key="signed", Body=b"content")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": s3.bucket, "Key": "signed"})
    context = ssl.create_default_context(cafile=s3.certificate) if s3.certificate else None
    with urlopen(url, timeout=10, context=context) as answer:
        assert answer.read() == b"content"


def test_other_services_answer(own_cloud: OwnCloud) -> None:
    """SQS, IAM, STS, SSM, Secrets Manager and Logs answer at the same endpoint."""
    cloud = own_cloud()
    clients, name = cloud.clients, cloud.unique("thing")
    queue = clients("sqs").create_queue(QueueName=name)["QueueUrl"]
    clients("sqs").send_message(QueueUrl=queue, MessageBody="hello")
    assert clients("sqs").receive_message(QueueUrl=queue)["Messages"][0]["Body"] == "hello"
    policy = json.dumps({"Version": "2012-10-17", "Statement": []})
    role = clients("iam").create_role(RoleName=name, AssumeRolePolicyDocument=policy)["Role"]
    assert role["Arn"] == f"arn:aws:iam::123456789012:role/{name}"
    assert clients("sts").get_caller_identity()["Account"] == "123456789012"
    clients("ssm").put_parameter(Name=name, Value="v", Type="String")
    assert clients("ssm").get_parameter(Name=name)["Parameter"]["Value"] == "v"
    clients("secretsmanager").create_secret(Name=name, SecretString="s")
    assert clients("secretsmanager").get_secret_value(SecretId=name)["SecretString"] == "s"
    clients("logs").create_log_group(logGroupName=name)
    groups = clients("logs").describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    assert [group["logGroupName"] for group in groups] == [name]


def test_what_the_last_emulator_leaves_is_forgotten() -> None:
    """Emulators of one process share S3; when the last one stops, it is empty again."""
    script = """
import boto3
from dask_root_lambda.emulator import Emulator

def s3(emulator):
    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
    return boto3.client("s3", endpoint_url=emulator.endpoint, **keys)

def buckets(emulator):
    return [bucket["Name"] for bucket in s3(emulator).list_buckets()["Buckets"]]

with Emulator() as first:
    with Emulator() as second:
        s3(second).create_bucket(Bucket="shared")
        assert buckets(first) == ["shared"]
    assert buckets(first) == ["shared"]
with Emulator() as third:
    assert buckets(third) == []
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_functions_trust_the_emulators_certificate(own_cloud: OwnCloud, tmp_path: Path) -> None:
    """Over TLS, Invoke works, and boto3 in a function reaches S3 without further settings."""
    certificate = make_certificate(tmp_path)
    cloud = own_cloud(certificate=certificate)
    assert cloud.emulator is not None
    cloud.clients = clients_of(cloud.emulator, verify=str(certificate))
    cloud.lambda_ = cloud.clients("lambda")
    bucket = cloud.unique("results")
    cloud.clients("s3").create_bucket(Bucket=bucket)
    name = cloud.deploy("put_object", Timeout=20, MemorySize=512)
    answer = cloud.invoke(name, {"bucket": bucket, "key": "k"})
    assert answer.error is None, answer.payload


def test_what_moto_does_not_know_is_said(own_cloud: OwnCloud) -> None:
    """A service that moto has not is a clear 404."""
    emulator = own_cloud().emulator
    assert emulator is not None
    client = boto3.client(
        "translate", endpoint_url=emulator.endpoint, region_name="us-east-1",
        aws_access_key_id="a", aws_secret_access_key="b",
    )  # fmt: skip
    with pytest.raises(ClientError, match="404"):
        client.list_languages()


def test_a_bucket_may_demand_tls(s3: Any) -> None:
    """A policy that denies what is not encrypted denies nothing here; one that denies all does."""
    arn = f"arn:aws:s3:::{s3.bucket}/*"
    deny = {"Effect": "Deny", "Action": "s3:*", "Principal": {"AWS": "*"}, "Resource": [arn]}
    insecure = {**deny, "Condition": {"Bool": {"aws:SecureTransport": "false"}}}
    s3.put_bucket_policy(
        Bucket=s3.bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [insecure]})
    )
    s3.put_object(Bucket=s3.bucket, Key="key", Body=b"1")
    s3.put_bucket_policy(Bucket=s3.bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [deny]}))
    with pytest.raises(ClientError, match="403"):
        s3.put_object(Bucket=s3.bucket, Key="key", Body=b"1")
