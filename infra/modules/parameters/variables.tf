variable "path" {
  description = "Path under which the parameters lie."
  type        = string
}

variable "values" {
  description = "Values by name."
  type        = map(string)
}
