variable "name" {
  description = "Name of the repository."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9._/-]{1,255}$", var.name))
    error_message = "ECR wants 2 to 256 lower-case letters, digits and separators."
  }
}

variable "function_arns" {
  description = "ARNs of the functions that may run its images."
  type        = list(string)

  validation {
    condition     = length(var.function_arns) > 0 && alltrue([for arn in var.function_arns : can(regex("^arn:[^:]+:lambda:", arn))])
    error_message = "ARNs of Lambda functions, at least one."
  }
}

variable "kept_images" {
  description = "Images that are kept, the newest, those of clusters among them. By the time of their push, not of their use."
  type        = number
  default     = 20

  validation {
    condition     = var.kept_images >= 1 && floor(var.kept_images) == var.kept_images
    error_message = "At least the image in use."
  }
}

variable "kept_cluster_images" {
  description = "Of those, images of clusters (tags that end in -cluster) at most."
  type        = number
  default     = 5

  validation {
    condition     = var.kept_cluster_images >= 1 && floor(var.kept_cluster_images) == var.kept_cluster_images
    error_message = "At least the image in use."
  }
}
