"""Tests of what all protocols share."""
