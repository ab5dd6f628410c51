output "names" {
  description = "Names of the parameters."
  value       = [for parameter in aws_ssm_parameter.values : parameter.name]
}
