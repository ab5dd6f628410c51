terraform {
  required_version = ">= 1.6"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.82, < 6.0"
    }
  }

  # A bucket of yours, with versioning. Without this block the state is a file in this directory.
  backend "s3" {
    bucket = "example-terraform-state"
    key    = "dask-root-lambda/muons.tfstate"
    region = "eu-central-1"
  }
}
