#!/usr/bin/env bash
# Train a student as one job: sbatch slurm/train_student.sh STORE --val VAL --output-dir DIR
#SBATCH --job-name=kdtrain-student
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
exec "${KD_VENV:-.venv}/bin/kdtrain" student --resume auto "$@"
