"""The subcommands that look after deployments, one module each: `add_arguments` and `run`."""
