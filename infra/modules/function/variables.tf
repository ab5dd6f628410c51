variable "name" {
  description = "Name of the function."
  type        = string
}

variable "image_uri" {
  description = "URI of its image, with a tag or digest."
  type        = string
}

variable "role_arn" {
  description = "Role that it runs under."
  type        = string
}

variable "memory_mb" {
  description = "Memory in MB."
  type        = number
}

variable "timeout_s" {
  description = "Seconds that an invocation may take."
  type        = number
}

variable "tmp_mb" {
  description = "Size of /tmp in MB."
  type        = number
}

variable "architecture" {
  description = "x86_64 or arm64."
  type        = string
}

variable "snapstart" {
  description = "Restore environments from a snapshot."
  type        = bool
}

variable "reserved_concurrency" {
  description = "Environments at most, kept for it; null shares the account's quota."
  type        = number
}

variable "alias" {
  description = "Alias of the published version."
  type        = string
}

variable "log_group" {
  description = "Name of the log group that it logs to."
  type        = string
}

variable "variables" {
  description = "Environment variables."
  type        = map(string)
}
