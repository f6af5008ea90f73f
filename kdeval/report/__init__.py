"""The report: what a run achieved, as Markdown and as one HTML page that needs nothing else."""
