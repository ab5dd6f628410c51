"""Tests of the emulator; a package, so that its modules may be called like others."""
