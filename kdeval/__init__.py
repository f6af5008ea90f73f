"""Metrics and reports: say how good a student is."""
