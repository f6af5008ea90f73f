#!/usr/bin/env bash
# One process of a training job: worker.sh COMMAND...
# The first of them that fails leaves its exit code in the file KD_EXIT_CODE: torchrun ends with 1 whatever it was.
set -euo pipefail
# SIGUSR1 reaches every process of a step, and would kill those that do not know it: torchrun, and kdtrain until training
# begins. What is ignored here is ignored by COMMAND too, until it asks for it.
trap '' USR1
# COMMAND answers SIGTERM with a checkpoint, for which this waits.
trap : TERM
code=0
"$@" || code=$?
if [ "$code" != 0 ] && [ ! -e "$KD_EXIT_CODE" ]; then
    echo "$code" >"$KD_EXIT_CODE"
fi
# All processes make room after the same step. For the first one that is gone the others must not be killed.
if [ "$code" = 75 ]; then
    exit 0
fi
exit "$code"
