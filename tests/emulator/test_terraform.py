"""Terraform's AWS provider against the emulator: what is applied is what the next plan sees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ..terraform import Terraform
from .clouds import Cloud, wait_until

pytestmark = pytest.mark.timeout(280)

OwnCloud = Callable[..., Cloud]

SERVICES = ("iam", "lambda", "logs", "sts")

CONFIGURATION = """
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

provider "aws" {
  region = "us-east-1"
}

resource "aws_iam_role" "function" {
  name               = "function"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "lambda.amazonaws.com" }
    }]
  })
}

resource "aws_cloudwatch_log_group" "function" {
  name              = "/analysis/function"
  retention_in_days = 7
}

resource "aws_lambda_function" "function" {
  function_name                  = "function"
  role                           = aws_iam_role.function.arn
  package_type                   = "Image"
  image_uri                      = "123456789012.dkr.ecr.us-east-1.amazonaws.com/function:1"
  memory_size                    = 300
  timeout                        = 30
  publish                        = true
  reserved_concurrent_executions = 5
  image_config { command = ["in_terraform.handler"] }
  environment { variables = { GREETING = "hello" } }
  ephemeral_storage { size = 512 }
  snap_start { apply_on = "PublishedVersions" }
  logging_config {
    log_format = "Text"
    log_group  = aws_cloudwatch_log_group.function.name
  }
  tags = { project = "analysis" }
}

resource "aws_lambda_alias" "live" {
  name             = "live"
  function_name    = aws_lambda_function.function.function_name
  function_version = aws_lambda_function.function.version
}

resource "aws_lambda_function_event_invoke_config" "live" {
  function_name                = aws_lambda_function.function.function_name
  qualifier                    = aws_lambda_alias.live.name
  maximum_retry_attempts       = 1
  maximum_event_age_in_seconds = 3600
  destination_config {
    on_failure { destination = "arn:aws:sqs:us-east-1:123456789012:failures" }
  }
}

resource "aws_lambda_permission" "s3" {
  statement_id  = "s3"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.function.function_name
  principal     = "s3.amazonaws.com"
  source_arn    = "arn:aws:s3:::events"
}
"""


@pytest.fixture
def terraform(own_cloud: OwnCloud, tmp_path: Path) -> tuple[Cloud, Terraform]:
    (tmp_path / "in_terraform.py").write_text(
        "import os\ndef handler(event, context): return [os.environ['GREETING'], context.function_version]\n"
    )
    cloud = own_cloud(python_path=(str(tmp_path),))
    assert cloud.emulator is not None
    directory = tmp_path / "terraform"
    directory.mkdir()
    (directory / "main.tf").write_text(CONFIGURATION)
    made = Terraform(directory, cloud.emulator.endpoint, SERVICES)
    made.init()
    return cloud, made


def test_a_function_is_applied_and_destroyed(terraform: tuple[Cloud, Terraform]) -> None:
    """After apply, a plan shows no change and the alias runs; after destroy, there is nothing."""
    cloud, made = terraform
    made.apply()
    assert not made.changes()
    # Terraform does not wait for the snapshot of the version.
    settings = {"FunctionName": "function", "Qualifier": "1"}
    wait_until(lambda: cloud.lambda_.get_function_configuration(**settings)["State"] == "Active")
    answer = cloud.invoke("function", Qualifier="live")
    assert answer.payload == ["hello", "1"]
    assert "Memory Size: 300 MB" in answer.log
    made.must("destroy", "-auto-approve", "-refresh=false")
    assert cloud.lambda_.list_functions()["Functions"] == []


BLOCKS = """
variable "blocks" { default = true }

resource "aws_lambda_function" "blocks" {
  function_name = "blocks"
  role          = aws_iam_role.function.arn
  package_type  = "Image"
  image_uri     = "123456789012.dkr.ecr.us-east-1.amazonaws.com/function:1"

  dynamic "image_config" {
    for_each = var.blocks ? [1] : []
    content { command = ["in_terraform.handler"] }
  }
  dynamic "environment" {
    for_each = var.blocks ? [1] : []
    content { variables = { GREETING = "hello" } }
  }
  dynamic "dead_letter_config" {
    for_each = var.blocks ? [1] : []
    content { target_arn = "arn:aws:sqs:us-east-1:123456789012:letters" }
  }
  dynamic "logging_config" {
    for_each = var.blocks ? [1] : []
    content {
      log_format            = "JSON"
      application_log_level = "DEBUG"
      system_log_level      = "WARN"
    }
  }
}
"""


def test_blocks_that_are_removed_are_gone(terraform: tuple[Cloud, Terraform]) -> None:
    """The plan after each apply shows no change, with the blocks and without them."""
    _, made = terraform
    (made.directory / "main.tf").write_text(CONFIGURATION.partition('resource "aws_cloudwatch')[0] + BLOCKS)
    for blocks in (True, False):
        made.apply(blocks=blocks)
        assert not made.changes()
