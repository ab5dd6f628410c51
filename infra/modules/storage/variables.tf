variable "name" {
  description = "Name of the bucket, unlike any other in the world."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.name))
    error_message = "S3 wants 3 to 63 lower-case letters, digits, periods and hyphens."
  }
}

variable "partial_results_days" {
  description = "Days after which partial results are deleted."
  type        = number

  validation {
    condition     = var.partial_results_days >= 1 && floor(var.partial_results_days) == var.partial_results_days
    error_message = "At least one day."
  }
}

variable "prefix" {
  description = "Prefix of the keys of partial results."
  type        = string
  default     = "partial"

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]+$", var.prefix))
    error_message = "Letters, digits, underscores and hyphens, without a slash."
  }
}
