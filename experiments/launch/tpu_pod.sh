#!/bin/sh
# One run on all hosts of a Cloud TPU pod slice:
#
#     TPU=my-v5e-16 ZONE=us-west4-a experiments/launch/tpu_pod.sh \
#         experiments/camvid_unet.py --workdir /mnt/shared/runs/unet
#
# On every host this repository must lie in REPOSITORY (default segjax, in the home
# folder) with its environment (`make`), and the work directory on a disk that all hosts
# see. The hosts learn from the TPU's metadata who the others are.
set -eu
: "${TPU:?name of the TPU}" "${ZONE:?its zone}"
options=
for option in "$@"; do
    options="$options '$(printf %s "$option" | sed "s/'/'\\\\''/g")'"
done
exec gcloud compute tpus tpu-vm ssh "$TPU" --zone "$ZONE" --worker=all \
    --command "cd ${REPOSITORY:-segjax} && .venv/bin/python $options --distributed"
