variable "name" {
  description = "Name of the bucket, unlike any other in the world."
  type        = string
}

variable "partial_results_days" {
  description = "Days after which partial results are deleted."
  type        = number
}

variable "prefix" {
  description = "Prefix of the keys of partial results."
  type        = string
  default     = "partial"
}
