# Sourced by the job scripts of training. `train COMMAND...` runs a command as a step of the job on all its nodes, and
# puts the job back into the queue when the command was asked to make room.

source "${KD_SLURM:-slurm}/env.sh"
export KD_SLURM=${KD_SLURM:-slurm} KD_DEVICE=${KD_DEVICE:-cuda}

# The value of --output-dir among the words of a command; nothing where it is not there.
output_dir() {
    local word before='' found=''
    for word in "$@"; do
        case $before in --output[-_]dir) found=$word ;; esac
        case $word in --output[-_]dir=*) found=${word#*=} ;; esac
        before=$word
    done
    echo "$found"
}

# Name of the newest checkpoint of a run.
newest_checkpoint() {
    local found=("$1"/checkpoints/step-*)
    [ -d "${found[-1]}" ] && basename "${found[-1]}" || echo "no checkpoint"
}

train() {
    local run before code=0
    run=$(output_dir "$@")
    if [ -z "$run" ]; then
        run=results/slurm-$SLURM_JOB_ID # the same after every requeue
        set -- "$@" --output-dir "$run"
    fi
    before=$(newest_checkpoint "$run")
    export KD_EXIT_CODE=logs/.exit-code-$SLURM_JOB_ID
    mkdir -p logs
    rm -f "$KD_EXIT_CODE"
    # A step of its own, because --signal goes to the steps of a job and not to its script. What srun would not take from
    # the job by itself, in one version or another, is named.
    srun --kill-on-bad-exit=1 --export=ALL --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" \
        "$KD_SLURM/worker.sh" "$@" || code=$?
    if [ -e "$KD_EXIT_CODE" ]; then
        code=$(<"$KD_EXIT_CODE")
        rm "$KD_EXIT_CODE"
    fi
    if [ "$code" = 75 ] && [ "$(newest_checkpoint "$run")" = "$before" ]; then
        echo "job $SLURM_JOB_ID is not requeued: it kept no new checkpoint in $run and would get no further next time" >&2
    elif [ "$code" = 75 ] || { [ "$code" = 143 ] && preempted; }; then
        echo "job $SLURM_JOB_ID made room and goes back into the queue; $run has $(newest_checkpoint "$run")" >&2
        scontrol requeue "$SLURM_JOB_ID" || echo "SLURM refuses; the same sbatch command continues the run" >&2
    fi
    exit "$code"
}

# Whether a more urgent job wants the place of this one. It then has its partition's GraceTime to end after SIGTERM, and
# SLURM itself requeues only what does not. After scancel, which sends SIGTERM too, nothing is to run again.
preempted() {
    scontrol show job "$SLURM_JOB_ID" | grep -q 'PreemptTime=[0-9]'
}
