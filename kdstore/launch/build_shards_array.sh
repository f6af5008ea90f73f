#!/usr/bin/env bash
# Build a store as a job array, from its second argument's number of tasks:
#   sbatch --array=0-7 build_shards_array.sh env.sh 8 ROWS... --teacher DIR --out train.kd
# Task I writes every 8th part, from part I on; task 0 settles all else first, and the others wait for it. What is in
# place is kept, so that the same line can be submitted again, or only the tasks that `kdstore status train.kd` names.
#SBATCH --job-name=kdstore-build
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.log
set -euo pipefail
env_sh=$1 tasks=$2
shift 2
source "$env_sh"
# Not SLURM_ARRAY_TASK_COUNT: where a few tasks are submitted again, that is the count of those.
exec kdstore build "$@" --share "$SLURM_ARRAY_TASK_ID/$tasks"
