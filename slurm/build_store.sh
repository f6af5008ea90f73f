#!/usr/bin/env bash
# Build a store as one job: sbatch slurm/build_store.sh ROWS... --teacher DIR --out train.kd
#SBATCH --job-name=kdstore-build
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
exec "${KD_VENV:-.venv}/bin/kdstore" build "$@"
