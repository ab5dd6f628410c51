# A deployment for a group, with everything that is optional.

module "muons" {
  source = "../.."

  name      = "muons"
  region    = "eu-central-1"
  account   = "123456789012"
  image_tag = var.image_tag

  # A function per tier, for analyses that need more memory in a range.
  memory_mb       = 1769
  memory_tiers_mb = [3538, 10240]
  timeout_s       = 900
  tmp_mb          = 512

  # Restores in about a second, for about USD 60 a month with these three tiers.
  snapstart = true

  # Environments of each function. All reservations together have to leave 100 of the account's quota.
  reserved_concurrency = 200

  input_buckets        = ["example-open-data"]
  output_buckets       = ["example-skims"]
  partial_results_days = 2
  log_retention_days   = 90
  cern_token_secret    = true

  daily_cost_alarm_usd = 25
  alarm_email          = "physicist@example.org"

  tags = {
    group = "muon-physics"
  }
}

# Whoever is in this group may run analyses, and nothing more.
resource "aws_iam_group" "physicists" {
  name = "muon-physicists"
}

resource "aws_iam_group_policy_attachment" "physicists" {
  group      = aws_iam_group.physicists.name
  policy_arn = module.muons.user_policy_arn
}
