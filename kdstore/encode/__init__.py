"""From examples to rows: tokenizer, teacher, embeddings, and the pipeline that runs them part by part."""

from huggingface_hub.utils import logging as hub_logging
from transformers.utils import logging as transformers_logging

# A command shows one progress bar, ours, and one line per error.
transformers_logging.disable_progress_bar()
transformers_logging.set_verbosity_error()
hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
