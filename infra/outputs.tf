output "function" {
  description = "Name of the first function, null before there is an image."
  value       = local.has_image ? var.name : null
}

output "tiers" {
  description = "Names of all functions, by their memory in MB."
  value       = local.has_image ? local.tiers : {}
}

output "versions" {
  description = "The published version behind each function's alias."
  value       = { for function in module.function : function.name => function.version }
}

output "qualifier" {
  description = "The alias that clients invoke."
  value       = local.alias
}

output "image" {
  description = "URI of the image that the functions run, null before there is one."
  value       = local.image_uri
}

output "repository_url" {
  description = "Where images are pushed."
  value       = module.repository.url
}

output "bucket" {
  description = "Name of the bucket for partial results."
  value       = module.storage.name
}

output "store" {
  description = "URL under which partial results are kept."
  value       = module.storage.url
}

output "log_group" {
  description = "Where the functions log."
  value       = local.log_group
}

output "role_arn" {
  description = "The functions' role."
  value       = module.access.role_arn
}

output "user_policy_arn" {
  description = "Policy for users who run analyses: attach it to their users, groups or roles."
  value       = module.access.user_policy_arn
}

output "parameter_path" {
  description = "Where clients find all this in SSM."
  value       = local.parameter
}

output "token_secret_arn" {
  description = "The secret for CERN's token, null without one."
  value       = module.access.token_secret_arn
}

output "options" {
  description = "What dask-root-lambda deploy was asked for, as JSON; null where it was another that deployed."
  value       = var.options
}
