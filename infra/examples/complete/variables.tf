variable "image_tag" {
  description = "Tag of the image in the deployment's repository. Null in the first apply, which makes the repository."
  type        = string
  default     = null

  validation {
    condition     = var.image_tag == null || can(regex("^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$", var.image_tag))
    error_message = "The tag has at most 128 letters, digits, underscores, periods and hyphens."
  }
}
