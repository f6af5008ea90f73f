"""Settings that must be made before any test module imports torch."""

import os
import signal

# The suite runs one worker per core. Two pools of spinning threads on two cores slow each other down a
# hundredfold; child processes inherit this.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# A shell ignores Ctrl-C in what it starts in the background, and nohup the end of a terminal; children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
