variable "name" {
  description = "Name of the deployment."
  type        = string
}

variable "limit_usd" {
  description = "USD in a day that are still in order."
  type        = number
}

variable "email" {
  description = "Who is told; null for nobody, the alarm shows in CloudWatch."
  type        = string
}

variable "functions" {
  description = "Names of the functions by their memory in MB."
  type        = map(string)
}

variable "usd_per_gb_s" {
  description = "Price of a GB-second."
  type        = number
}

variable "usd_per_request" {
  description = "Price of an invocation."
  type        = number
  default     = 0.0000002
}
