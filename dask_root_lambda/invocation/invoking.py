"""Lambda's operation Invoke, made of botocore's parts.

botocore's client does for each call what any operation of any service may need: rules for the endpoint,
hooks, retries, a parser. That takes half of the CPU time of an invocation. Here a call is only signed, by
botocore, and sent; botocore's parser reads the answers that are errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import ClientError, IncompleteReadError
from botocore.parsers import create_parser

from dask_root_lambda.invocation.connection import AbortableSession

_OPERATION = "Invoke"


@dataclass(frozen=True)
class Answer:
    """What Lambda answers to an invocation that it has accepted."""

    payload: bytes
    """What the function returned, or its error, as JSON."""
    log: str
    """The last 4 KB of the function's log, in base64."""
    is_error: bool
    """Whether the payload is an error."""
    request_id: str | None


class InvokingClient:
    """Invokes functions, exactly once per call.

    Parameters
    ----------
    client
        botocore's, of Lambda: it knows the endpoint, and reads errors.
    credentials
        botocore's, which renew themselves; None where the user has none.
    http
        What requests are sent by.
    user_agent
        What AWS's logs name as the sender.
    """

    def __init__(self, client: Any, credentials: Any, http: AbortableSession, user_agent: str) -> None:
        self._model = client.meta.service_model
        self._region = client.meta.region_name
        self._credentials = credentials
        self._http = http
        # Of the path that the operation has in botocore's model of Lambda.
        path = self._model.operation_model(_OPERATION).http["requestUri"].partition("{")[0]
        self._url = f"{client.meta.endpoint_url.rstrip('/')}{path}"
        self._headers = {"User-Agent": user_agent, "X-Amz-Log-Type": "Tail"}

    def invoke(self, function: str, payload: bytes, qualifier: str | None = None) -> Answer:
        """Invoke a function, and wait for its answer.

        Parameters
        ----------
        function
            Name or ARN.
        payload
            The event, as JSON.
        qualifier
            Version or alias.

        Raises
        ------
        botocore.exceptions.ClientError
            Lambda refused the request, or failed.
        botocore.exceptions.BotoCoreError, botocore.exceptions.HTTPClientError
            There are no credentials, the connection broke, or no answer came in time.
        """
        response = self._http.send(self._signed(function, payload, qualifier))
        headers, content = response.headers, response.content
        length = headers.get("Content-Length")
        if length is not None and int(length) != len(content):
            raise IncompleteReadError(actual_bytes=len(content), expected_bytes=int(length))
        if response.status_code >= 300:
            raise self._error(response)
        return Answer(
            payload=content,
            log=headers.get("X-Amz-Log-Result", ""),
            is_error="X-Amz-Function-Error" in headers,
            request_id=headers.get("x-amzn-RequestId"),
        )

    def close(self) -> None:
        """Close idle connections; those in use close when their answer is there."""
        self._http.close()

    def _signed(self, function: str, payload: bytes, qualifier: str | None) -> Any:
        query = f"?{urlencode({'Qualifier': qualifier})}" if qualifier else ""
        url = f"{self._url}{quote(function, safe='')}/invocations{query}"
        request = AWSRequest("POST", url, self._headers, payload)
        credentials = self._credentials and self._credentials.get_frozen_credentials()
        SigV4Auth(credentials, self._model.signing_name, self._region).add_auth(request)
        return request.prepare()

    def _error(self, response: Any) -> ClientError:
        """Read an error as botocore's client does: in general, and again for what its kind has besides."""
        raw = {
            "headers": response.headers,
            "status_code": response.status_code,
            "body": response.content,
        }
        parser = create_parser(self._model.metadata["protocol"])
        parsed = parser.parse(raw, self._model.operation_model(_OPERATION).output_shape)
        shape = self._model.shape_for_error_code(parsed.get("Error", {}).get("Code"))
        if shape is not None:
            parsed.update(parser.parse(raw, shape))
        return ClientError(parsed, _OPERATION)
