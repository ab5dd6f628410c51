# Who may do what: the functions' role, and the policy of users who run analyses.

locals {
  arn        = "arn:${var.partition}"
  log_arn    = "${local.arn}:logs:${var.region}:${var.account}:log-group:${var.log_group}"
  objects    = "${var.bucket_arn}/${var.prefix}/*"
  far        = "${var.bucket_arn}/${var.far_prefix}/*"
  secret_arn = try(aws_secretsmanager_secret.token[0].arn, null)
}

resource "aws_secretsmanager_secret" "token" {
  #checkov:skip=CKV_AWS_149:Secrets Manager encrypts it with its own key; one of the customer's costs 1 USD a month.
  #checkov:skip=CKV2_AWS_57:CERN makes the token; there is no way to rotate it from here.
  count = var.token_secret ? 1 : 0

  name        = "${var.name}/cern-token"
  description = "Token for CERN's storage, read by the functions of ${var.name}"
  # Nothing is left behind when the deployment is destroyed.
  recovery_window_in_days = 0
}

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "functions" {
  name               = "${var.name}-${var.region}-functions"
  description        = "What the functions of ${var.name} may do"
  assume_role_policy = data.aws_iam_policy_document.assume.json
}

data "aws_iam_policy_document" "functions" {
  statement {
    sid       = "PartialResults"
    actions   = ["s3:GetObject", "s3:PutObject"]
    resources = [local.objects]
  }

  statement {
    sid       = "FarData"
    actions   = ["s3:GetObject", "s3:PutObject"]
    resources = [local.far]
  }

  statement {
    # Without it, S3 answers 403 instead of 404 to a key that is not there. It cannot be limited to the prefix:
    # a request for an object has none.
    sid       = "PartialResultsThatAreNotThere"
    actions   = ["s3:ListBucket"]
    resources = [var.bucket_arn]
  }

  dynamic "statement" {
    for_each = length(var.input_buckets) == 0 ? [] : [1]

    content {
      sid     = "Input"
      actions = ["s3:GetObject", "s3:ListBucket"]
      resources = flatten([
        for bucket in var.input_buckets : ["${local.arn}:s3:::${bucket}", "${local.arn}:s3:::${bucket}/*"]
      ])
    }
  }

  dynamic "statement" {
    for_each = length(var.output_buckets) == 0 ? [] : [1]

    content {
      # What is there is looked at: whether it is this range's, or an equal copy. S3 bills what an upload that
      # failed has sent until it is aborted.
      sid       = "Output"
      actions   = ["s3:PutObject", "s3:AbortMultipartUpload", "s3:GetObject"]
      resources = [for bucket in var.output_buckets : "${local.arn}:s3:::${bucket}/*"]
    }
  }

  dynamic "statement" {
    for_each = length(var.output_buckets) == 0 ? [] : [1]

    content {
      # Without it, S3 answers 403 instead of 404 to a key that is not there.
      sid       = "OutputThatIsNotThere"
      actions   = ["s3:ListBucket"]
      resources = [for bucket in var.output_buckets : "${local.arn}:s3:::${bucket}"]
    }
  }

  statement {
    sid       = "Logs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${local.log_arn}:*"]
  }

  dynamic "statement" {
    for_each = var.token_secret ? [1] : []

    content {
      sid       = "Token"
      actions   = ["secretsmanager:GetSecretValue"]
      resources = [local.secret_arn]
    }
  }
}

resource "aws_iam_role_policy" "functions" {
  name   = "functions"
  role   = aws_iam_role.functions.id
  policy = data.aws_iam_policy_document.functions.json
}

data "aws_iam_policy_document" "users" {
  #checkov:skip=CKV_AWS_356:GetAccountSettings only reads the quotas of Lambda, and takes no resource.
  statement {
    sid       = "Invoke"
    actions   = ["lambda:InvokeFunction"]
    resources = [for arn in var.function_arns : "${arn}:${var.alias}"]
  }

  statement {
    sid       = "Look"
    actions   = ["lambda:GetFunctionConfiguration", "lambda:GetFunctionConcurrency", "lambda:GetAlias"]
    resources = flatten([for arn in var.function_arns : [arn, "${arn}:*"]])
  }

  statement {
    sid       = "Quotas"
    actions   = ["lambda:GetAccountSettings"]
    resources = ["*"]
  }

  statement {
    sid       = "PartialResults"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
    resources = [local.objects]
  }

  statement {
    sid       = "FindPartialResults"
    actions   = ["s3:ListBucket"]
    resources = [var.bucket_arn]
  }

  statement {
    sid       = "FindTheDeployment"
    actions   = ["ssm:GetParameter", "ssm:GetParameters", "ssm:GetParametersByPath"]
    resources = ["${local.arn}:ssm:${var.region}:${var.account}:parameter${var.parameter}", "${local.arn}:ssm:${var.region}:${var.account}:parameter${var.parameter}/*"]
  }

  statement {
    sid       = "Logs"
    actions   = ["logs:FilterLogEvents", "logs:GetLogEvents", "logs:DescribeLogStreams"]
    resources = [local.log_arn, "${local.log_arn}:*"]
  }
}

resource "aws_iam_policy" "users" {
  name        = "${var.name}-${var.region}-users"
  description = "Run analyses on ${var.name}, and nothing more"
  policy      = data.aws_iam_policy_document.users.json
}
