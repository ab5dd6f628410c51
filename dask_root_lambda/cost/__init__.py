"""What invocations are billed, what that costs, and how it is told."""
