variable "name" {
  description = "Name of the deployment."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,28}[a-z0-9]$", var.name))
    error_message = "3 to 30 lower-case letters, digits and hyphens."
  }
}

variable "region" {
  description = "AWS region."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "The region has to look like us-east-1."
  }
}

variable "account" {
  description = "Number of the account."
  type        = string

  validation {
    condition     = can(regex("^[0-9]{12}$", var.account))
    error_message = "Twelve digits."
  }
}

variable "partition" {
  description = "AWS partition, such as aws."
  type        = string

  validation {
    condition     = can(regex("^aws[a-z-]*$", var.partition))
    error_message = "aws, aws-cn or aws-us-gov."
  }
}

variable "bucket_arn" {
  description = "ARN of the bucket for partial results."
  type        = string

  validation {
    condition     = can(regex("^arn:[^:]+:s3:::[^*/]+$", var.bucket_arn))
    error_message = "The ARN of one bucket."
  }
}

variable "far_prefix" {
  description = "Prefix of the keys of far data in it."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]+$", var.far_prefix))
    error_message = "Letters, digits, underscores and hyphens, without a slash."
  }
}

variable "prefix" {
  description = "Prefix of the keys of partial results in it."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]+$", var.prefix))
    error_message = "Letters, digits, underscores and hyphens, without a slash."
  }
}

variable "input_buckets" {
  description = "Names of the buckets that functions may read from."
  type        = set(string)

  validation {
    condition     = alltrue([for bucket in var.input_buckets : can(regex("^[a-z0-9.-]+$", bucket))])
    error_message = "Names of buckets, without patterns."
  }
}

variable "output_buckets" {
  description = "Names of the buckets that functions may write to."
  type        = set(string)

  validation {
    condition     = alltrue([for bucket in var.output_buckets : can(regex("^[a-z0-9.-]+$", bucket))])
    error_message = "Names of buckets, without patterns."
  }
}

variable "function_arns" {
  description = "ARNs of the functions, without version or alias."
  type        = list(string)

  validation {
    condition     = length(var.function_arns) > 0 && alltrue([for arn in var.function_arns : can(regex("^arn:[^:]+:lambda:[^*]+$", arn))])
    error_message = "ARNs of Lambda functions, without patterns."
  }
}

variable "alias" {
  description = "The alias that users invoke."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z][A-Za-z0-9_-]{0,127}$", var.alias))
    error_message = "A letter, then letters, digits, underscores and hyphens."
  }
}

variable "log_group" {
  description = "Name of the log group of the functions."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9_/.#-]{1,512}$", var.log_group))
    error_message = "1 to 512 letters, digits and _ / . # -."
  }
}

variable "parameter" {
  description = "Path of the parameters in SSM."
  type        = string

  validation {
    condition     = can(regex("^(/[A-Za-z0-9_.-]+)+$", var.parameter))
    error_message = "A path that begins with a slash and does not end with one."
  }
}

variable "token_secret" {
  description = "Whether to make a secret for CERN's token."
  type        = bool
}
