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

variable "far_data_days" {
  description = "Days after which what was fetched of far files is deleted."
  type        = number

  validation {
    condition     = var.far_data_days >= 1 && floor(var.far_data_days) == var.far_data_days
    error_message = "At least one day."
  }
}

variable "prefix" {
  description = "Prefix of the keys of partial results."
  type        = string
  default     = "partial"

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]+$", var.prefix)) && var.prefix != "far"
    error_message = "Letters, digits, underscores and hyphens, without a slash; not far, where far data lies."
  }
}
