variable "name" {
  description = "Name of the function."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,64}$", var.name))
    error_message = "Lambda wants 1 to 64 letters, digits, underscores and hyphens."
  }
}

variable "image_uri" {
  description = "URI of its image, with a tag or digest."
  type        = string

  validation {
    condition     = can(regex("^[^ ]+[:@][^ /]+$", var.image_uri))
    error_message = "A URI with a tag or a digest."
  }
}

variable "role_arn" {
  description = "Role that it runs under."
  type        = string

  validation {
    condition     = can(regex("^arn:[^:]+:iam::[0-9]{12}:role/", var.role_arn))
    error_message = "The ARN of a role."
  }
}

variable "memory_mb" {
  description = "Memory in MB."
  type        = number

  validation {
    condition     = var.memory_mb >= 128 && var.memory_mb <= 10240
    error_message = "AWS gives 128 to 10,240 MB."
  }
}

variable "timeout_s" {
  description = "Seconds that an invocation may take."
  type        = number

  validation {
    condition     = var.timeout_s >= 1 && var.timeout_s <= 900
    error_message = "1 to 900 seconds."
  }
}

variable "tmp_mb" {
  description = "Size of /tmp in MB."
  type        = number

  validation {
    condition     = var.tmp_mb >= 512 && var.tmp_mb <= 10240
    error_message = "512 to 10,240 MB."
  }
}

variable "architecture" {
  description = "x86_64 or arm64."
  type        = string

  validation {
    condition     = contains(["x86_64", "arm64"], var.architecture)
    error_message = "x86_64 or arm64."
  }
}

variable "snapstart" {
  description = "Restore environments from a snapshot."
  type        = bool
}

variable "reserved_concurrency" {
  description = "Environments at most, kept for it; null shares the account's quota."
  type        = number

  validation {
    condition     = var.reserved_concurrency == null ? true : var.reserved_concurrency >= 1
    error_message = "At least 1 environment, or null."
  }
}

variable "alias" {
  description = "Alias of the published version."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z][A-Za-z0-9_-]{0,127}$", var.alias))
    error_message = "A letter, then letters, digits, underscores and hyphens."
  }
}

variable "log_group" {
  description = "Name of the log group that it logs to."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9_/.#-]{1,512}$", var.log_group))
    error_message = "1 to 512 letters, digits and _ / . # -."
  }
}

variable "variables" {
  description = "Environment variables."
  type        = map(string)

  validation {
    condition     = alltrue([for name in keys(var.variables) : can(regex("^[A-Za-z][A-Za-z0-9_]+$", name))])
    error_message = "Names of environment variables have letters, digits and underscores."
  }
}
