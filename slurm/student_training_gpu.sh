#!/usr/bin/env bash
# Train a student on one GPU: sbatch slurm/student_training_gpu.sh STORE --val VAL --output-dir DIR
#SBATCH --job-name=kdtrain-student
#SBATCH --time=08:00:00
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
#SBATCH --signal=USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=logs/slurm-%j.out
set -euo pipefail
source "${KD_SLURM:-slurm}/train.sh"
train kdtrain student --resume auto --device "$KD_DEVICE" "$@"
