output "role_arn" {
  description = "ARN of the functions' role."
  value       = aws_iam_role.functions.arn
  # Functions start with all of their rights.
  depends_on = [aws_iam_role_policy.functions]
}

output "user_policy_arn" {
  description = "ARN of the users' policy."
  value       = aws_iam_policy.users.arn
}

output "token_secret_arn" {
  description = "ARN of the secret for CERN's token, null without one."
  value       = local.secret_arn
}
