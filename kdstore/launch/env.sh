# Sourced by every task before it runs `kdstore`. Adapt it to the cluster: module load, proxies, caches.

# The virtual environment with the packages, seen by all nodes.
export PATH="${KD_VENV:-.venv}/bin:$PATH"
# The same in every task: a store's bytes depend on the number of threads, so it is pinned when the build begins.
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
# Models come from directories or from the cache; compute nodes often have no network.
export HF_HUB_OFFLINE=${HF_HUB_OFFLINE:-1}
export TOKENIZERS_PARALLELISM=false
