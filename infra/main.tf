# A deployment: one image, a function per memory tier, a bucket for partial results, and what finds and guards them.

provider "aws" {
  region              = var.region
  allowed_account_ids = var.account == null ? null : [var.account]

  default_tags {
    tags = merge(var.tags, { "dask-root-lambda:deployment" = var.name })
  }
}

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  arn       = "arn:${local.partition}"
  log_group = "/dask-root-lambda/${var.name}"
  parameter = "/dask-root-lambda/${var.name}"
  alias     = "live"

  has_image = var.image_uri != null || var.image_tag != null
  image_uri = var.image_uri != null ? var.image_uri : var.image_tag != null ? "${module.repository.url}:${var.image_tag}" : null

  # Memory by name: the first has the deployment's name, the others their memory behind it. More memory for the first
  # changes it in place; keyed by memory, a second function of its name would be made while the first is deleted.
  functions = merge(
    { for mb in var.memory_tiers_mb : "${var.name}-${mb}" => mb },
    { (var.name) = var.memory_mb },
  )
  function_arns = [for name in keys(local.functions) : "${local.arn}:lambda:${var.region}:${local.account}:function:${name}"]
  # What clients are told; of two functions of the same memory, the first.
  tiers = merge(
    { for mb in var.memory_tiers_mb : tostring(mb) => "${var.name}-${mb}" },
    { (tostring(var.memory_mb)) = var.name },
  )
}

module "repository" {
  source = "./modules/repository"

  name          = var.name
  function_arns = local.function_arns
}

module "storage" {
  source = "./modules/storage"

  name                 = "${var.name}-${local.account}-${var.region}"
  partial_results_days = var.partial_results_days
  far_data_days        = var.far_data_days
}

module "access" {
  source = "./modules/access"

  name           = var.name
  region         = var.region
  account        = local.account
  partition      = local.partition
  bucket_arn     = module.storage.arn
  prefix         = module.storage.prefix
  far_prefix     = module.storage.far_prefix
  input_buckets  = var.input_buckets
  output_buckets = var.output_buckets
  function_arns  = local.function_arns
  alias          = local.alias
  log_group      = local.log_group
  parameter      = local.parameter
  token_secret   = var.cern_token_secret
}

resource "aws_cloudwatch_log_group" "functions" {
  #checkov:skip=CKV_AWS_158:The log has task names and durations. CloudWatch encrypts it with its own key.
  #checkov:skip=CKV_AWS_338:How long logs are kept is the user's choice; a year of them has a price.
  name              = local.log_group
  retention_in_days = var.log_retention_days
}

module "function" {
  source   = "./modules/function"
  for_each = local.has_image ? local.functions : {}

  name                 = each.key
  memory_mb            = each.value
  image_uri            = local.image_uri
  role_arn             = module.access.role_arn
  timeout_s            = var.timeout_s
  tmp_mb               = var.tmp_mb
  architecture         = var.architecture
  snapstart            = var.snapstart
  reserved_concurrency = var.reserved_concurrency
  alias                = local.alias
  log_group            = aws_cloudwatch_log_group.functions.name

  variables = merge(
    {
      DASK_ROOT_LAMBDA_STORE    = module.storage.url
      DASK_ROOT_LAMBDA_FAR_DAYS = tostring(var.far_data_days)
    },
    var.cern_token_secret ? { DASK_ROOT_LAMBDA_TOKEN_SECRET = module.access.token_secret_arn } : {},
  )

  # The first snapshot is taken, and the first image pulled, with these rights.
  depends_on = [module.access, module.repository]
}

module "parameters" {
  source = "./modules/parameters"

  path = local.parameter
  values = merge(
    {
      bucket    = module.storage.name
      store     = module.storage.url
      log-group = local.log_group
      region    = var.region
      version   = var.package_version
    },
    local.has_image ? {
      function  = var.name
      qualifier = local.alias
      image     = local.image_uri
      memory-mb = tostring(var.memory_mb)
      tiers     = jsonencode(local.tiers)
    } : {},
  )

  # What clients find has to be there.
  depends_on = [module.function]
}

module "alarm" {
  source = "./modules/alarm"
  count  = var.daily_cost_alarm_usd == null ? 0 : 1

  name         = var.name
  limit_usd    = var.daily_cost_alarm_usd
  email        = var.alarm_email
  functions    = local.functions
  usd_per_gb_s = var.architecture == "arm64" ? 0.0000133334 : 0.0000166667
}
