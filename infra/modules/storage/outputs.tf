output "name" {
  description = "Name of the bucket."
  value       = aws_s3_bucket.store.id
}

output "arn" {
  description = "ARN of the bucket."
  value       = aws_s3_bucket.store.arn
}

output "prefix" {
  description = "Prefix of the keys of partial results."
  value       = var.prefix
}

output "far_prefix" {
  description = "Prefix of the keys of far data."
  value       = local.far
}

output "url" {
  description = "URL of the store."
  value       = "s3://${aws_s3_bucket.store.id}/${var.prefix}"
}
