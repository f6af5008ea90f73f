#!/usr/bin/env bash
# Train a student on two GPUs or more: sbatch slurm/multi_gpu_training.sh STORE --val VAL --output-dir DIR
#SBATCH --job-name=kdtrain-multi-gpu
#SBATCH --time=16:00:00
#SBATCH --gres=gpu:2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --signal=USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=logs/slurm-%j.out
set -euo pipefail
source "${KD_SLURM:-slurm}/train.sh"
processes=${SLURM_GPUS_ON_NODE:-2}
export OMP_NUM_THREADS=$((OMP_NUM_THREADS > processes ? OMP_NUM_THREADS / processes : 1))
# SLURM sends SIGTERM to every process. From torchrun, which would pass it on, it would come again: too soon for a checkpoint.
export PET_SIGNALS_TO_HANDLE=SIGINT
# One torchrun on each node; this script runs on the first one, where they meet.
train torchrun --nnodes "$SLURM_NNODES" --nproc-per-node "$processes" --rdzv-backend c10d --rdzv-id "$SLURM_JOB_ID" \
    --rdzv-endpoint "$(hostname):$((20000 + SLURM_JOB_ID % 10000))" \
    --no-python "$KD_SLURM/worker.sh" kdtrain student --resume auto --device "$KD_DEVICE" "$@"
