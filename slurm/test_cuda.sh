#!/usr/bin/env bash
# Say what a node offers, and train one step on it: sbatch slurm/test_cuda.sh
#SBATCH --job-name=kdtrain-test-cuda
#SBATCH --time=00:30:00
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=2
#SBATCH --mem=8G
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=logs/slurm-%j.out
set -euo pipefail
source "${KD_SLURM:-slurm}/env.sh"
device=${KD_DEVICE:-cuda}
echo "job $SLURM_JOB_ID on $(hostname): CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES-(not set)}, device $device"
if [ "$device" != cpu ]; then
    nvidia-smi || echo "nvidia-smi does not run here"
fi
exec python "${KD_SLURM:-slurm}/check_device.py" "$device"
