locals {
  # Beside partial results, where functions look for it: what is below their prefix expires with them.
  far = "far"
}

resource "aws_s3_bucket" "store" {
  #checkov:skip=CKV_AWS_144:Partial results and copies of far data can be made again. No copy elsewhere is wanted.
  #checkov:skip=CKV_AWS_145:S3 encrypts with its own key; a key of the customer's costs a request per partial result.
  #checkov:skip=CKV_AWS_18:Who may read and write is two policies. A log of each access costs more than the data.
  #checkov:skip=CKV_AWS_21:Writes are create-only, so there are no earlier versions to keep.
  #checkov:skip=CKV2_AWS_62:Nobody waits for an event of this bucket.
  bucket = var.name
  # Only what can be made again is in it.
  force_destroy = true
}

resource "aws_s3_bucket_public_access_block" "store" {
  bucket                  = aws_s3_bucket.store.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "store" {
  bucket = aws_s3_bucket.store.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "store" {
  bucket = aws_s3_bucket.store.id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "store" {
  bucket = aws_s3_bucket.store.id

  rule {
    id     = "partial-results"
    status = "Enabled"

    filter {
      prefix = "${var.prefix}/"
    }

    expiration {
      days = var.partial_results_days
    }
  }

  rule {
    id     = "far-data"
    status = "Enabled"

    filter {
      prefix = "${local.far}/"
    }

    expiration {
      days = var.far_data_days
    }
  }

  rule {
    id     = "uploads-that-broke-off"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }
}

data "aws_iam_policy_document" "tls" {
  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.store.arn, "${aws_s3_bucket.store.arn}/*"]

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "store" {
  bucket = aws_s3_bucket.store.id
  policy = data.aws_iam_policy_document.tls.json

  depends_on = [aws_s3_bucket_public_access_block.store]
}
