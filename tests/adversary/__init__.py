"""Tests of what the worst requests cost others."""
