"""Launchers: a build as many processes, on this machine or as a SLURM job array, and what became of them.

All run ``kdstore build ... --share I/N`` (see `kdstore.encode.worklist`); they differ in who starts it.
"""
