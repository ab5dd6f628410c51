resource "aws_lambda_function" "function" {
  #checkov:skip=CKV_AWS_50:A range is one step; there is no trace to follow.
  #checkov:skip=CKV_AWS_115:Reserved concurrency is the user's choice: it takes from the account's other functions.
  #checkov:skip=CKV_AWS_116:Clients invoke synchronously and get the error; a queue for failed events would stay empty.
  #checkov:skip=CKV_AWS_117:Input comes from CERN and S3. In a VPC that would need a NAT gateway, which costs while idle.
  #checkov:skip=CKV_AWS_173:The variables name the store and a secret's ARN. Lambda encrypts them with its own key.
  #checkov:skip=CKV_AWS_272:Code signing is for zip packages; this is an image, named by its content.
  function_name                  = var.name
  description                    = "Ranges of RDataFrames, for dask-root-lambda"
  role                           = var.role_arn
  package_type                   = "Image"
  image_uri                      = var.image_uri
  architectures                  = [var.architecture]
  memory_size                    = var.memory_mb
  timeout                        = var.timeout_s
  reserved_concurrent_executions = var.reserved_concurrency == null ? -1 : var.reserved_concurrency
  publish                        = true

  ephemeral_storage {
    size = var.tmp_mb
  }

  environment {
    variables = var.variables
  }

  dynamic "snap_start" {
    for_each = var.snapstart ? [1] : []

    content {
      apply_on = "PublishedVersions"
    }
  }

  logging_config {
    log_format            = "JSON"
    log_group             = var.log_group
    application_log_level = "INFO"
    # The client reads what an invocation was billed from the platform's report.
    system_log_level = "INFO"
  }

  # AWS takes minutes for the image of 1 GB, and for the snapshot of each version.
  timeouts {
    create = "30m"
    update = "30m"
  }

  lifecycle {
    precondition {
      condition     = !var.snapstart || var.tmp_mb == 512
      error_message = "SnapStart allows a /tmp of 512 MB only: set tmp_mb to 512, or snapstart to false."
    }
  }
}

resource "aws_lambda_alias" "live" {
  name             = var.alias
  description      = "What clients invoke"
  function_name    = aws_lambda_function.function.function_name
  function_version = aws_lambda_function.function.version
}

# Whoever invokes asynchronously gets no second try by AWS: the client decides that.
resource "aws_lambda_function_event_invoke_config" "live" {
  function_name          = aws_lambda_function.function.function_name
  qualifier              = aws_lambda_alias.live.name
  maximum_retry_attempts = 0
}
