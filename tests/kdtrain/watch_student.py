"""Runs a script, and writes down which rows its student is given: watch_student.py SEEN DIE_AT SCRIPT ARGUMENTS...

Every call of the student makes one line of ``SEEN/RANK.jsonl``: the input ids of its rows, without padding. At call
DIE_AT, counted from 1, the process is killed; 0 is never.
"""

import functools
import json
import os
import runpy
import signal
import sys
from pathlib import Path

from transformers import T5ForConditionalGeneration

seen, die_at, script = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
lines = (seen / f"{os.environ.get('RANK', 0)}.jsonl").open("w")
forward = T5ForConditionalGeneration.forward
calls = 0


@functools.wraps(forward)
def watched(self, *args, **inputs):
    global calls
    calls += 1
    if calls == die_at:
        os.kill(os.getpid(), signal.SIGKILL)
    given = zip(inputs["input_ids"], inputs["attention_mask"], inputs["decoder_input_ids"], strict=True)
    # Rows of padding start with the padding id, as all do, and go on with it.
    rows = [ids[mask == 1].tolist() for ids, mask, labels in given if labels.any()]
    lines.write(json.dumps(rows) + "\n")
    lines.flush()
    return forward(self, *args, **inputs)


T5ForConditionalGeneration.forward = watched
sys.argv = sys.argv[3:]
runpy.run_path(script, run_name="__main__")
