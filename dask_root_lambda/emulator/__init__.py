"""AWS Lambda on this machine, faithful enough to test against.

One HTTP endpoint for boto3, the AWS CLI and Terraform: Lambda is emulated here, in execution environments
that are processes of their own and run the real ``awslambdaric``; moto answers for every other service.
It imports nothing else of this project: a function is a handler and its environment.

``Emulator`` serves from a thread; ``python -m dask_root_lambda.emulator`` from a process of its own.
"""

from __future__ import annotations

from dask_root_lambda.emulator.faults import Faults, LambdaFault, S3Fault
from dask_root_lambda.emulator.options import Image, Options
from dask_root_lambda.emulator.server import Emulator

__all__ = ["Emulator", "Faults", "Image", "LambdaFault", "Options", "S3Fault"]
