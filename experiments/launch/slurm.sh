#!/bin/sh
# One run on several nodes of a SLURM cluster, one process per GPU:
#
#     sbatch --nodes 2 --gpus-per-node 4 experiments/launch/slurm.sh \
#         experiments/camvid_unet.py --workdir /shared/runs/unet
#
# The work directory must be on a disk that all nodes see. SLURM tells every process
# who the others are; a process that dies ends the job, and the same command resumes it.
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=8
#SBATCH --signal=TERM@120
set -eu
exec srun --kill-on-bad-exit=1 "${PYTHON:-python}" "$@" --distributed
