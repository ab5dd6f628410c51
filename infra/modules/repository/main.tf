resource "aws_ecr_repository" "images" {
  #checkov:skip=CKV_AWS_136:The image holds public packages and our own code. ECR encrypts it with its own key.
  name                 = var.name
  image_tag_mutability = "IMMUTABLE"
  # An image can be built again from its tag's content.
  force_delete = true

  image_scanning_configuration {
    scan_on_push = true
  }

  encryption_configuration {
    encryption_type = "AES256"
  }
}

resource "aws_ecr_lifecycle_policy" "images" {
  repository = aws_ecr_repository.images.name

  policy = jsonencode({
    rules = [
      {
        rulePriority = 1
        description  = "Old images of clusters go, before they take the room of the functions'"
        selection = {
          tagStatus      = "tagged"
          tagPatternList = ["*-cluster"]
          countType      = "imageCountMoreThan"
          countNumber    = var.kept_cluster_images
        }
        action = { type = "expire" }
      },
      {
        rulePriority = 2
        description  = "Old images go"
        selection    = { tagStatus = "any", countType = "imageCountMoreThan", countNumber = var.kept_images }
        action       = { type = "expire" }
      },
    ]
  })
}

data "aws_iam_policy_document" "pull" {
  statement {
    sid       = "FunctionsPull"
    actions   = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    resources = null

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }

    condition {
      test     = "StringLike"
      variable = "aws:sourceArn"
      values   = var.function_arns
    }
  }
}

resource "aws_ecr_repository_policy" "images" {
  repository = aws_ecr_repository.images.name
  policy     = data.aws_iam_policy_document.pull.json
}
