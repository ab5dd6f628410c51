"""A deployment in AWS: its image, and what is made of it there."""
