variable "path" {
  description = "Path under which the parameters lie."
  type        = string

  validation {
    condition     = can(regex("^(/[A-Za-z0-9_.-]+)+$", var.path))
    error_message = "A path that begins with a slash and does not end with one."
  }
}

variable "values" {
  description = "Values by name."
  type        = map(string)

  validation {
    condition     = alltrue([for value in values(var.values) : length(value) > 0 && length(value) <= 4096])
    error_message = "SSM keeps values of 1 to 4,096 characters."
  }
}
