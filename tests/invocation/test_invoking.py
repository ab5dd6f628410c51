"""Invoke as we send it: boto3 is the oracle of requests and of errors."""

from __future__ import annotations

import json
from types import SimpleNamespace

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.credentials import Credentials
from botocore.exceptions import ClientError, IncompleteReadError, NoCredentialsError

from dask_root_lambda.invocation.invoking import InvokingClient

CREDENTIALS = Credentials("access", "secret", "token")
PAYLOAD = b'{"a":1}'
ANSWERS = {
    "throttled": (
        429,
        {"x-amzn-ErrorType": "TooManyRequestsException"},
        {"Reason": "CallerRateLimitExceeded"},
    ),
    "throttled, with a link": (
        429,
        {"x-amzn-errortype": "TooManyRequestsException:http://internal.amazon.com/"},
        {"Reason": "ConcurrentInvocationLimitExceeded", "Type": "User", "message": "Rate Exceeded."},
    ),
    "unknown": (404, {"x-amzn-ErrorType": "ResourceNotFoundException"}, {"Message": "none", "Type": "User"}),
    "of no kind": (400, {}, {"message": "bad"}),
    "of a kind nobody knows": (403, {"x-amzn-ErrorType": "NewException"}, {"message": "new"}),
}


class Sent:
    """Stands in for the session that sends requests."""

    def __init__(self, status=200, headers=None, body=b"null"):
        self.requests = []
        self.headers = {"Content-Length": str(len(body)), "x-amzn-RequestId": "id"} | (headers or {})
        self.response = AWSResponse("", status, self.headers, SimpleNamespace(stream=lambda: iter([body])))

    def send(self, request):
        self.requests.append(request)
        return self.response


def boto3_client(**options):
    keys = {"aws_access_key_id": "access", "aws_secret_access_key": "secret", "aws_session_token": "token"}
    return boto3.client("lambda", region_name="eu-south-2", **keys, **options)


def ours(sent, **options):
    return InvokingClient(boto3_client(**options), CREDENTIALS, sent, "agent")


@pytest.mark.parametrize("options", [{}, {"endpoint_url": "http://127.0.0.1:1/base/"}])
@pytest.mark.parametrize("function", ["f", "arn:aws:lambda:eu-south-2:1:function:f:1"])
@pytest.mark.parametrize("qualifier", [None, "live", "$LATEST"])
def test_a_request_is_the_one_that_boto3_makes(function, qualifier, options):
    """Its URL, content and headers are boto3's, but for what counts boto3's own tries."""
    theirs, sent, client = Sent(), Sent(), boto3_client(**options)
    client.meta.events.register("before-send.lambda.Invoke", lambda request, **_: theirs.send(request))
    which = {"FunctionName": function, **({"Qualifier": qualifier} if qualifier else {})}
    client.invoke(**which, Payload=PAYLOAD, LogType="Tail")
    ours(sent, **options).invoke(function, PAYLOAD, qualifier)
    (one,), (other,) = sent.requests, theirs.requests
    assert (one.method, one.url, one.body) == (other.method, other.url, other.body)
    assert {*one.headers} == {name for name in other.headers if not name.startswith("amz-sdk-")}
    assert text(one.headers["X-Amz-Security-Token"]) == "token"


def test_a_request_is_signed_anew_with_the_credentials_of_the_moment():
    """Those that were renewed meanwhile count, and the signature is for Lambda in the client's region."""
    sent, credentials = Sent(), Credentials("first", "secret")
    client = InvokingClient(boto3_client(), credentials, sent, "agent")
    client.invoke("f", PAYLOAD)
    credentials.access_key = "second"
    client.invoke("f", PAYLOAD)
    signed_by = [text(request.headers["Authorization"]).split("/") for request in sent.requests]
    assert [parts[0].rpartition("=")[2] for parts in signed_by] == ["first", "second"]
    assert signed_by[0][2:4] == ["eu-south-2", "lambda"]


def test_without_credentials_nothing_is_sent():
    """The error is botocore's."""
    sent = Sent()
    with pytest.raises(NoCredentialsError):
        InvokingClient(boto3_client(), None, sent, "agent").invoke("f", PAYLOAD)
    assert sent.requests == []


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_error_is_the_one_that_boto3_raises(answer):
    """Code, message, status, request id and the reason of a refusal are told as boto3 tells them."""
    status, headers, document = ANSWERS[answer]
    theirs, client = Sent(status, headers, json.dumps(document).encode()), boto3_client()
    client.meta.events.register("before-send.lambda.Invoke", lambda request, **_: theirs.send(request))
    with pytest.raises(ClientError) as expected:
        client.invoke(FunctionName="f", Payload=PAYLOAD)
    with pytest.raises(ClientError) as raised:
        ours(Sent(status, headers, json.dumps(document).encode())).invoke("f", PAYLOAD)
    # What boto3 adds of its own tries.
    metadata = expected.value.response["ResponseMetadata"]
    metadata = {
        name: metadata[name] for name in metadata if name not in ("RetryAttempts", "MaxAttemptsReached")
    }
    assert raised.value.response == {**expected.value.response, "ResponseMetadata": metadata}


def test_an_answer_is_what_the_function_returned():
    """With the end of its log, and whether it is an error."""
    headers = {"X-Amz-Log-Result": "bG9n", "X-Amz-Function-Error": "Unhandled"}
    answer = ours(Sent(200, headers, b'{"errorMessage": "x"}')).invoke("f", PAYLOAD)
    assert (answer.payload, answer.log, answer.is_error) == (b'{"errorMessage": "x"}', "bG9n", True)
    assert answer.request_id == "id"
    assert not ours(Sent()).invoke("f", PAYLOAD).is_error


def test_an_answer_that_is_cut_off_is_an_error():
    """A connection that closes in the middle of an answer is noticed."""
    with pytest.raises(IncompleteReadError):
        ours(Sent(headers={"Content-Length": "99"})).invoke("f", PAYLOAD)


def text(value):
    return value.decode() if isinstance(value, bytes) else value
