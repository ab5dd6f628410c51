output "name" {
  description = "Name of the function."
  value       = aws_lambda_function.function.function_name
}

output "version" {
  description = "Published version behind the alias."
  value       = aws_lambda_alias.live.function_version
}
