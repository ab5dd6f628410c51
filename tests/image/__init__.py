"""Tests of the real image, in real containers: `make image-test`."""
