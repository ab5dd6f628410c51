variable "name" {
  description = "Name of the deployment. Everything it makes carries it; several deployments live side by side."
  type        = string
  default     = "dask-root-lambda"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,28}[a-z0-9]$", var.name))
    error_message = "The name has 3 to 30 characters: a lower-case letter, then lower-case letters, digits and hyphens."
  }
}

variable "region" {
  description = "AWS region, such as us-east-1: the one nearest to the data."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "The region has to look like us-east-1."
  }
}

variable "account" {
  description = "Number of the AWS account that is meant: in any other nothing is done. Null for whichever the credentials are of."
  type        = string
  default     = null

  validation {
    condition     = var.account == null || can(regex("^[0-9]{12}$", var.account))
    error_message = "Accounts have numbers of 12 digits."
  }
}

variable "image_tag" {
  description = "Tag of the function's image in the deployment's own repository. Without it, and without image_uri, only what does not need an image is made."
  type        = string
  default     = null

  validation {
    condition     = var.image_tag == null || can(regex("^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$", var.image_tag))
    error_message = "The tag has at most 128 letters, digits, underscores, periods and hyphens."
  }
}

variable "image_uri" {
  description = "Whole URI of an image that lies elsewhere, instead of image_tag."
  type        = string
  default     = null

  validation {
    condition     = var.image_uri == null || can(regex("^[^ ]+[:@][^ /]+$", var.image_uri))
    error_message = "The image needs a tag, or a digest: REPOSITORY:TAG."
  }
}

variable "package_version" {
  description = "Version of dask-root-lambda that deploys; clients are told."
  type        = string
  default     = "unknown"

  validation {
    condition     = length(var.package_version) > 0 && length(var.package_version) <= 100
    error_message = "1 to 100 characters."
  }
}

variable "options" {
  description = "What dask-root-lambda deploy was asked for, as JSON. It is kept as an output of the same name, for whoever deploys next."
  type        = string
  default     = null

  validation {
    condition     = var.options == null || can(jsondecode(var.options))
    error_message = "JSON, or null."
  }
}

variable "memory_mb" {
  description = "Memory of the function in MB. It buys CPU as well: 1,769 MB are one vCPU."
  type        = number
  default     = 1769

  validation {
    condition     = var.memory_mb >= 1024 && var.memory_mb <= 10240 && floor(var.memory_mb) == var.memory_mb
    error_message = "ROOT needs 1,024 MB, and AWS gives 10,240 at most."
  }
}

variable "memory_tiers_mb" {
  description = "Memory of further functions of the same image, in MB, such as [3538, 10240]: for ranges that need more."
  type        = set(number)
  default     = []

  validation {
    condition     = alltrue([for mb in var.memory_tiers_mb : mb >= 1024 && mb <= 10240 && floor(mb) == mb])
    error_message = "Each tier has 1,024 to 10,240 MB."
  }
}

variable "timeout_s" {
  description = "Seconds that one invocation may take."
  type        = number
  default     = 900

  validation {
    condition     = var.timeout_s >= 10 && var.timeout_s <= 900
    error_message = "The time-out is 10 to 900 seconds."
  }
}

variable "tmp_mb" {
  description = "Size of /tmp in MB. What is beyond 512 costs extra, and SnapStart allows no more."
  type        = number
  default     = 512

  validation {
    condition     = var.tmp_mb >= 512 && var.tmp_mb <= 10240
    error_message = "/tmp has 512 to 10,240 MB."
  }
}

variable "reserved_concurrency" {
  description = "Environments of each function at most, kept for it out of the account's quota. Null shares the quota."
  type        = number
  default     = null

  validation {
    condition     = var.reserved_concurrency == null ? true : var.reserved_concurrency >= 1
    error_message = "At least 1 environment, or null."
  }
}

variable "snapstart" {
  description = "Restore environments from a snapshot, in about a second instead of five. While idle it costs about USD 0.0000015 per GB and second for each function's published version: USD 6.83 a month for 1,769 MB, 39.54 for 10,240."
  type        = bool
  default     = false
}

variable "architecture" {
  description = "Processor. ROOT's wheels exist for x86_64 only; arm64 is for images with another ROOT."
  type        = string
  default     = "x86_64"

  validation {
    condition     = contains(["x86_64", "arm64"], var.architecture)
    error_message = "The architecture is x86_64 or arm64."
  }
}

variable "log_retention_days" {
  description = "Days that logs are kept."
  type        = number
  default     = 30

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365], var.log_retention_days)
    error_message = "CloudWatch keeps logs for 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180 or 365 days."
  }
}

variable "partial_results_days" {
  description = "Days after which partial results of runs that failed are deleted. Those of runs that succeed are deleted at once."
  type        = number
  default     = 1

  validation {
    condition     = var.partial_results_days >= 1 && floor(var.partial_results_days) == var.partial_results_days
    error_message = "At least one day."
  }
}

variable "far_data_days" {
  description = "Days after which what functions fetched of far files is deleted, which analyses ask for with cache_days."
  type        = number
  default     = 30

  validation {
    condition     = var.far_data_days >= 1 && floor(var.far_data_days) == var.far_data_days
    error_message = "At least one day."
  }
}

variable "input_buckets" {
  description = "Names of the buckets that the functions may read from."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for bucket in var.input_buckets : can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", bucket))])
    error_message = "Names of buckets, without s3:// and without patterns."
  }
}

variable "output_buckets" {
  description = "Names of the buckets that the functions may write to: Snapshots and copies. They may read what is there, and delete nothing."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for bucket in var.output_buckets : can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", bucket))])
    error_message = "Names of output buckets, without s3:// and without patterns."
  }
}

variable "cern_token_secret" {
  description = "Make a secret for a token of CERN's storage, which only the functions can read. Its value is put there by hand."
  type        = bool
  default     = false
}

variable "daily_cost_alarm_usd" {
  description = "Tell alarm_email when the functions cost more than this in a day. Null for no alarm."
  type        = number
  default     = null

  validation {
    condition     = var.daily_cost_alarm_usd == null ? true : var.daily_cost_alarm_usd > 0
    error_message = "More than 0, or null."
  }
}

variable "alarm_email" {
  description = "Who is told by the cost alarm. AWS asks this address for its consent first."
  type        = string
  default     = null

  validation {
    condition     = var.alarm_email == null || can(regex("^[^@ ]+@[^@ ]+$", var.alarm_email))
    error_message = "An address such as name@example.org, or null."
  }
}

variable "tags" {
  description = "More tags for everything."
  type        = map(string)
  default     = {}

  validation {
    condition     = length(var.tags) <= 40 && !contains(keys(var.tags), "dask-root-lambda:deployment")
    error_message = "At most 40 tags, and not dask-root-lambda:deployment, which is set already."
  }
}
