variable "name" {
  description = "Name of the repository."
  type        = string
}

variable "function_arns" {
  description = "ARNs of the functions that may run its images."
  type        = list(string)
}

variable "kept_images" {
  description = "Images that are kept, the newest."
  type        = number
  default     = 5
}
