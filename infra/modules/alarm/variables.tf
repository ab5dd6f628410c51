variable "name" {
  description = "Name of the deployment."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,28}[a-z0-9]$", var.name))
    error_message = "3 to 30 lower-case letters, digits and hyphens."
  }
}

variable "limit_usd" {
  description = "USD in a day that are still in order."
  type        = number

  validation {
    condition     = var.limit_usd > 0
    error_message = "More than 0."
  }
}

variable "email" {
  description = "Who is told; null for nobody, the alarm shows in CloudWatch."
  type        = string

  validation {
    condition     = var.email == null || can(regex("^[^@ ]+@[^@ ]+$", var.email))
    error_message = "An address such as name@example.org, or null."
  }
}

variable "functions" {
  description = "Memory of the functions in MB, by their names."
  type        = map(number)

  validation {
    condition     = length(var.functions) > 0 && length(var.functions) <= 5
    error_message = "1 to 5 functions: an alarm takes ten metrics, and each function has two."
  }
}

variable "usd_per_gb_s" {
  description = "Price of a GB-second."
  type        = number

  validation {
    condition     = var.usd_per_gb_s > 0
    error_message = "More than 0."
  }
}

variable "usd_per_request" {
  description = "Price of an invocation."
  type        = number
  default     = 0.0000002

  validation {
    condition     = var.usd_per_request > 0
    error_message = "More than 0."
  }
}
