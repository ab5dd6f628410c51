variable "name" {
  description = "Name of the deployment."
  type        = string
}

variable "region" {
  description = "AWS region."
  type        = string
}

variable "account" {
  description = "Number of the account."
  type        = string
}

variable "partition" {
  description = "AWS partition, such as aws."
  type        = string
}

variable "bucket_arn" {
  description = "ARN of the bucket for partial results."
  type        = string
}

variable "prefix" {
  description = "Prefix of the keys in it."
  type        = string
}

variable "input_buckets" {
  description = "Names of the buckets that functions may read from."
  type        = set(string)
}

variable "function_arns" {
  description = "ARNs of the functions, without version or alias."
  type        = list(string)
}

variable "alias" {
  description = "The alias that users invoke."
  type        = string
}

variable "log_group" {
  description = "Name of the log group of the functions."
  type        = string
}

variable "parameter" {
  description = "Path of the parameters in SSM."
  type        = string
}

variable "token_secret" {
  description = "Whether to make a secret for CERN's token."
  type        = bool
}
