"""What several tests share; nothing here is a test."""

from pathlib import Path

TESTS = Path(__file__).parents[1]
"""The folder that has to be on the path of a process that uses these modules."""
