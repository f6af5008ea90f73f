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
    echo "${found[-1]##*/}"
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
    if [ "$code" = 75 ]; then
        requeue "$run" "$before"
    fi
    exit "$code"
}

# Put the job back into the queue, if the run has a checkpoint that it did not begin with.
requeue() {
    local run=$1 before=$2 now
    now=$(newest_checkpoint "$run")
    if [ "$now" = "$before" ]; then
        echo "job $SLURM_JOB_ID is not requeued: it made no checkpoint in $run, and would not get further next time" >&2
        return
    fi
    echo "job $SLURM_JOB_ID made room; it goes back into the queue and will continue from $run/checkpoints/$now" >&2
    scontrol requeue "$SLURM_JOB_ID" || echo "SLURM refuses; the same sbatch command continues the run" >&2
}
