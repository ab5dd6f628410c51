"""Who may do what, as tables: an IAM action and the resource that it is tried on."""

from __future__ import annotations

REGION = "eu-west-1"
ACCOUNT = "123456789012"
NAME = "policies"
BUCKET = f"{NAME}-{ACCOUNT}-{REGION}"
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{NAME}"
PARAMETERS = f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/dask-root-lambda/{NAME}"
LOGS = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/dask-root-lambda/{NAME}"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/{NAME}-{REGION}-functions"
OTHER_FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{NAME}-of-others"

SECRET = "SECRET"
"""Stands for the ARN of the deployment's secret, which has random letters in it."""

USER_MAY = [
    ("lambda:InvokeFunction", f"{FUNCTION}:live"),
    ("lambda:InvokeFunction", f"{FUNCTION}-3538:live"),
    ("lambda:GetFunctionConfiguration", FUNCTION),
    ("lambda:GetFunctionConfiguration", f"{FUNCTION}:live"),
    ("lambda:GetAlias", f"{FUNCTION}:live"),
    ("s3:GetObject", f"arn:aws:s3:::{BUCKET}/partial/run/1"),
    ("s3:PutObject", f"arn:aws:s3:::{BUCKET}/partial/run/1"),
    ("s3:DeleteObject", f"arn:aws:s3:::{BUCKET}/partial/run/1"),
    ("s3:ListBucket", f"arn:aws:s3:::{BUCKET}"),
    ("ssm:GetParametersByPath", PARAMETERS),
    ("ssm:GetParameter", f"{PARAMETERS}/function"),
    ("logs:FilterLogEvents", f"{LOGS}:*"),
]
USER_MAY_NOT = [
    ("lambda:InvokeFunction", FUNCTION),
    ("lambda:InvokeFunction", f"{FUNCTION}:1"),
    ("lambda:InvokeFunction", f"{OTHER_FUNCTION}:live"),
    ("lambda:InvokeFunction", f"{FUNCTION.replace(REGION, 'us-east-1')}:live"),
    ("lambda:GetFunctionConfiguration", OTHER_FUNCTION),
    # GetFunction tells where the image lies; GetFunctionConfiguration is enough.
    ("lambda:GetFunction", FUNCTION),
    ("lambda:ListFunctions", "*"),
    ("lambda:CreateFunction", f"{FUNCTION}-mine"),
    ("lambda:UpdateFunctionCode", FUNCTION),
    ("lambda:UpdateFunctionConfiguration", FUNCTION),
    ("lambda:UpdateAlias", f"{FUNCTION}:live"),
    ("lambda:PublishVersion", FUNCTION),
    ("lambda:AddPermission", FUNCTION),
    ("lambda:DeleteFunction", FUNCTION),
    ("lambda:PutFunctionConcurrency", FUNCTION),
    ("s3:GetObject", "arn:aws:s3:::open-data/file.root"),
    ("s3:GetObject", f"arn:aws:s3:::{BUCKET}/other/1"),
    ("s3:PutObject", f"arn:aws:s3:::{BUCKET}/far/file/1"),
    ("s3:GetObject", f"arn:aws:s3:::{BUCKET}-of-others/partial/1"),
    ("s3:PutObject", "arn:aws:s3:::of-others/partial/1"),
    ("s3:PutObject", "arn:aws:s3:::skims/2012/skim_0.root"),
    ("s3:ListBucket", "arn:aws:s3:::of-others"),
    ("s3:ListAllMyBuckets", "*"),
    ("s3:PutBucketPolicy", f"arn:aws:s3:::{BUCKET}"),
    ("s3:PutLifecycleConfiguration", f"arn:aws:s3:::{BUCKET}"),
    ("s3:PutObjectAcl", f"arn:aws:s3:::{BUCKET}/partial/1"),
    ("s3:DeleteBucket", f"arn:aws:s3:::{BUCKET}"),
    ("ssm:GetParameter", f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/of-others/password"),
    ("ssm:GetParametersByPath", f"{PARAMETERS}-of-others"),
    ("ssm:GetParametersByPath", f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/dask-root-lambda"),
    ("ssm:PutParameter", f"{PARAMETERS}/function"),
    ("ssm:DeleteParameter", f"{PARAMETERS}/function"),
    ("logs:FilterLogEvents", f"{LOGS}-of-others:*"),
    ("logs:DeleteLogGroup", f"{LOGS}:*"),
    ("logs:PutLogEvents", f"{LOGS}:log-stream:x"),
    ("secretsmanager:GetSecretValue", SECRET),
    ("secretsmanager:PutSecretValue", SECRET),
    ("iam:PassRole", ROLE),
    ("sts:AssumeRole", ROLE),
    ("iam:CreateUser", f"arn:aws:iam::{ACCOUNT}:user/another"),
    ("iam:AttachUserPolicy", f"arn:aws:iam::{ACCOUNT}:user/physicist"),
    ("iam:CreatePolicyVersion", f"arn:aws:iam::{ACCOUNT}:policy/{NAME}-{REGION}-users"),
    ("iam:ListUsers", "*"),
    ("ecr:PutImage", f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/{NAME}"),
    ("ecr:BatchGetImage", f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/{NAME}"),
    ("ec2:RunInstances", "*"),
]
ROLE_MAY = [
    ("s3:GetObject", f"arn:aws:s3:::{BUCKET}/far/file/1"),
    ("s3:PutObject", f"arn:aws:s3:::{BUCKET}/far/file/1"),
    ("s3:GetObject", f"arn:aws:s3:::{BUCKET}/partial/run/1"),
    ("s3:PutObject", f"arn:aws:s3:::{BUCKET}/partial/run/1"),
    ("s3:ListBucket", f"arn:aws:s3:::{BUCKET}"),
    ("s3:GetObject", "arn:aws:s3:::open-data/file.root"),
    ("s3:ListBucket", "arn:aws:s3:::open-data"),
    ("s3:PutObject", "arn:aws:s3:::skims/2012/skim_0.root"),
    ("s3:AbortMultipartUpload", "arn:aws:s3:::skims/2012/skim_0.root"),
    ("s3:GetObject", "arn:aws:s3:::skims/2012/skim_0.root"),
    ("s3:ListBucket", "arn:aws:s3:::skims"),
    ("logs:CreateLogStream", f"{LOGS}:log-stream:2026/01/01/[1]x"),
    ("logs:PutLogEvents", f"{LOGS}:log-stream:2026/01/01/[1]x"),
    ("secretsmanager:GetSecretValue", SECRET),
]
ROLE_MAY_NOT = [
    ("s3:DeleteObject", f"arn:aws:s3:::{BUCKET}/far/file/1"),
    ("s3:DeleteObject", f"arn:aws:s3:::{BUCKET}/partial/run/1"),
    ("s3:PutObject", f"arn:aws:s3:::{BUCKET}/elsewhere"),
    ("s3:PutObject", "arn:aws:s3:::open-data/file.root"),
    ("s3:AbortMultipartUpload", "arn:aws:s3:::open-data/file.root"),
    ("s3:PutObject", "arn:aws:s3:::skims-2/2012/skim_0.root"),
    ("s3:DeleteObject", "arn:aws:s3:::skims/2012/skim_0.root"),
    ("s3:PutObjectAcl", "arn:aws:s3:::skims/2012/skim_0.root"),
    ("s3:PutBucketPolicy", "arn:aws:s3:::skims"),
    ("s3:DeleteObject", "arn:aws:s3:::open-data/file.root"),
    ("s3:GetObject", "arn:aws:s3:::open-data-2/file.root"),
    ("s3:GetObject", "arn:aws:s3:::of-others/file.root"),
    ("s3:ListAllMyBuckets", "*"),
    ("s3:PutBucketPolicy", f"arn:aws:s3:::{BUCKET}"),
    ("logs:CreateLogGroup", f"{LOGS}:*"),
    ("logs:PutLogEvents", f"{LOGS}-of-others:log-stream:x"),
    ("logs:FilterLogEvents", f"{LOGS}:*"),
    ("secretsmanager:GetSecretValue", f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:of-others-AbCdEf"),
    ("secretsmanager:PutSecretValue", SECRET),
    ("secretsmanager:ListSecrets", "*"),
    ("lambda:InvokeFunction", f"{FUNCTION}:live"),
    ("lambda:UpdateFunctionCode", FUNCTION),
    ("ssm:GetParameter", f"{PARAMETERS}/function"),
    ("iam:PassRole", ROLE),
    ("iam:PutRolePolicy", ROLE),
    ("sts:AssumeRole", ROLE),
    ("iam:ListUsers", "*"),
    ("ec2:RunInstances", "*"),
    ("ec2:CreateNetworkInterface", "*"),
]
