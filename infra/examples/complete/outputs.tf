output "repository_url" {
  description = "Where the image is pushed."
  value       = module.muons.repository_url
}

output "user_policy_arn" {
  description = "Policy of users who run analyses."
  value       = module.muons.user_policy_arn
}

output "parameter_path" {
  description = "Where clients find the deployment in SSM."
  value       = module.muons.parameter_path
}
