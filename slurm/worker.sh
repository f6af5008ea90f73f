#!/usr/bin/env bash
# One process of a training job: worker.sh COMMAND...
# The first of them that fails leaves its exit code in the file KD_EXIT_CODE: torchrun ends with 1 whatever it was.
set -euo pipefail
# Both signals reach every process of a step, and would end those that do not know them: this one, kdtrain until it has
# begun, torchrun. What is ignored here is ignored by COMMAND too, until it asks for it.
trap '' USR1 TERM
code=0
"$@" || code=$?
if [ "$code" != 0 ] && [ ! -e "$KD_EXIT_CODE" ]; then
    echo "$code" >"$KD_EXIT_CODE"
fi
# All processes make room after the same step. For the first one that is gone the others must not be killed.
case $code in
    75 | 143) exit 0 ;;
    *) exit "$code" ;;
esac
