resource "aws_ssm_parameter" "values" {
  #checkov:skip=CKV_AWS_337:Names of functions and of a bucket are no secret.
  #checkov:skip=CKV2_AWS_34:Names of functions and of a bucket are no secret.
  for_each = var.values

  name        = "${var.path}/${each.key}"
  description = "Of a deployment of dask-root-lambda"
  type        = "String"
  value       = each.value
}
