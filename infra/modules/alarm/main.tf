# What the functions cost in a day, reckoned from what CloudWatch counts anyway: no billing data, no delay of a day.
# INIT and the restoring of snapshots are billed and not counted here.

locals {
  names = sort(keys(var.functions))
  # A function that was not invoked has no metrics, and without FILL the sum would have no value.
  costs = [
    for index, name in local.names :
    "FILL(d${index},0)/1000*${var.functions[name] / 1024 * var.usd_per_gb_s}+FILL(i${index},0)*${var.usd_per_request}"
  ]
}

resource "aws_sns_topic" "alarm" {
  #checkov:skip=CKV_AWS_26:The message says that a limit was passed; it is no secret, and CloudWatch cannot use the default key.
  name = "${var.name}-cost"
}

resource "aws_sns_topic_subscription" "email" {
  count = var.email == null ? 0 : 1

  topic_arn = aws_sns_topic.alarm.arn
  protocol  = "email"
  endpoint  = var.email
}

resource "aws_cloudwatch_metric_alarm" "cost" {
  alarm_name          = "${var.name}-cost"
  alarm_description   = "The functions of ${var.name} cost more than ${var.limit_usd} USD in a day"
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.limit_usd
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarm.arn]

  metric_query {
    id          = "usd"
    label       = "USD"
    expression  = join("+", local.costs)
    return_data = true
  }

  dynamic "metric_query" {
    for_each = { for pair in setproduct(range(length(local.names)), ["Duration", "Invocations"]) : "${pair[1]}${pair[0]}" => pair }

    content {
      id = "${lower(substr(metric_query.value[1], 0, 1))}${metric_query.value[0]}"

      metric {
        namespace   = "AWS/Lambda"
        metric_name = metric_query.value[1]
        period      = 86400
        stat        = "Sum"
        dimensions  = { FunctionName = local.names[metric_query.value[0]] }
      }
    }
  }
}
