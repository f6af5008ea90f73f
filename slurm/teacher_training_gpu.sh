#!/usr/bin/env bash
# Train a teacher on one GPU: sbatch slurm/teacher_training_gpu.sh ROWS --output-dir DIR
#SBATCH --job-name=kdtrain-teacher
#SBATCH --time=12:00:00
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=4
#SBATCH --mem=32G
#SBATCH --signal=USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=logs/slurm-%j.out
set -euo pipefail
source "${KD_SLURM:-slurm}/train.sh"
train kdtrain teacher --resume auto --device "$KD_DEVICE" "$@"
