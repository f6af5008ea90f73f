"""From examples to rows: tokenizer, teacher, embeddings, and the pipeline that runs them part by part."""

from transformers.utils import logging

# Ours is the only progress that a command shows; warnings still come through.
logging.disable_progress_bar()
