output "topic_arn" {
  description = "ARN of the topic that the alarm tells."
  value       = aws_sns_topic.alarm.arn
}
