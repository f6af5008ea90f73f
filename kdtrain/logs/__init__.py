"""What a run leaves in its directory to be read: tables, summaries, TensorBoard, text, and warnings.

`kdtrain.logs.columns` defines the tables, `kdtrain.logs.summaries` the JSON files, `kdtrain.logs.health` the
warnings. Everything but the text is computed from the rows of the tables, so that a run which was stopped and
resumed leaves the same files as one of a piece. ``docs/logs.md`` tells how to read them.
"""
