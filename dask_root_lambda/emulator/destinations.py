"""Where results of Event invocations go: SQS, SNS, S3, EventBridge and other functions.

Lambda calls these services with the credentials of the function's role; so does this, on the emulator's own
endpoint, where moto answers.
"""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import Any, TypeAlias

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from dask_root_lambda.emulator.functions import FunctionVersion
from dask_root_lambda.emulator.host import Platform
from dask_root_lambda.emulator.runtime_api import Event

logger = logging.getLogger(__name__)

# Of messages: name to data type and value.
Attributes: TypeAlias = dict[str, dict[str, str]]

_CONFIG = Config(connect_timeout=5, read_timeout=30, retries={"total_max_attempts": 1})


class Destinations:
    """Sends records.

    Parameters
    ----------
    platform
        Endpoint and credentials.
    submit
        Accepts an event for another function, by its ARN.
    """

    def __init__(self, platform: Platform, submit: Callable[[str, bytes], None]) -> None:
        self._platform = platform
        self._submit = submit
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="emulator-destinations")

    async def send(self, arn: str, record: dict[str, Any], version: FunctionVersion) -> None:
        """Send a record of an invocation; a destination that fails is logged, as Lambda counts it."""
        service = arn.split(":")[2]
        if service == "lambda":
            self._submit(arn, json.dumps(record).encode())
            return
        sender = {"sqs": self._to_sqs, "sns": self._to_sns, "s3": self._to_s3, "events": self._to_events}
        if service not in sender:
            logger.warning("destination %s is not one of Lambda's; nothing was sent", arn)
            return
        await self._in_thread(arn, sender[service], arn, record, version)

    async def send_dead_letter(self, arn: str, event: Event, error: str, version: FunctionVersion) -> None:
        """Send an event that was given up to its function's dead-letter queue."""
        attributes = {
            "RequestID": {"DataType": "String", "StringValue": event.request_id},
            "ErrorCode": {"DataType": "Number", "StringValue": "200"},
            "ErrorMessage": {"DataType": "String", "StringValue": error[:1024]},
        }
        body = event.payload.decode()
        send = self._letter_to_sns if arn.split(":")[2] == "sns" else self._letter_to_sqs
        await self._in_thread(arn, send, arn, body, attributes, version)

    def close(self) -> None:
        """Send no more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, arn: str, send: Callable[..., None], *arguments: Any) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, send, *arguments)
        except (BotoCoreError, ClientError) as error:
            logger.warning("destination %s refused a record: %s", arn, error)

    def _client(self, service: str, version: FunctionVersion) -> Any:
        credentials = self._platform.sessions.of(version)
        certificate = self._platform.options.certificate
        session = boto3.Session(
            credentials.access_key_id,
            credentials.secret_access_key,
            credentials.session_token,
            region_name=self._platform.options.region,
        )
        verify = str(certificate) if certificate else None
        return session.client(service, endpoint_url=self._platform.endpoint, config=_CONFIG, verify=verify)

    def _to_sqs(self, arn: str, record: dict[str, Any], version: FunctionVersion) -> None:
        client = self._client("sqs", version)
        client.send_message(QueueUrl=self._queue_url(arn), MessageBody=json.dumps(record))

    def _queue_url(self, arn: str) -> str:
        """Make a queue's URL: to ask for it, a role needs a permission that sending does not."""
        account, name = arn.split(":")[4:6]
        return f"{self._platform.endpoint}/{account}/{name}"

    def _to_sns(self, arn: str, record: dict[str, Any], version: FunctionVersion) -> None:
        self._client("sns", version).publish(TopicArn=arn, Message=json.dumps(record))

    def _to_s3(self, arn: str, record: dict[str, Any], version: FunctionVersion) -> None:
        key = _object_key(version.name, datetime.now(timezone.utc))
        bucket = arn.rpartition(":")[2]
        self._client("s3", version).put_object(Bucket=bucket, Key=key, Body=json.dumps(record).encode())

    def _to_events(self, arn: str, record: dict[str, Any], version: FunctionVersion) -> None:
        success = record["requestContext"]["condition"] == "Success"
        entry = {
            "Source": "lambda",
            "DetailType": f"Lambda Function Invocation Result - {'Success' if success else 'Failure'}",
            "Detail": json.dumps(record),
            "EventBusName": arn,
            "Resources": [arn, record["requestContext"]["functionArn"]],
        }
        self._client("events", version).put_events(Entries=[entry])

    def _letter_to_sqs(self, arn: str, body: str, attributes: Attributes, version: FunctionVersion) -> None:
        client = self._client("sqs", version)
        client.send_message(QueueUrl=self._queue_url(arn), MessageBody=body, MessageAttributes=attributes)

    def _letter_to_sns(self, arn: str, body: str, attributes: Attributes, version: FunctionVersion) -> None:
        self._client("sns", version).publish(TopicArn=arn, Message=body, MessageAttributes=attributes)


def _object_key(function: str, now: datetime) -> str:
    # https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
    return f"aws/lambda/async/{function}/{now:%Y/%m/%d/%Y-%m-%dT%H.%M.%S}-{uuid.uuid4()}"
