#!/bin/sh
# Several processes on this machine, each with its own devices, as one run:
#
#     experiments/launch/local.sh 2 experiments/camvid_unet.py --smoke
#
# starts two processes of `python SCRIPT OPTIONS`. On a CPU every one gets
# DEVICES_PER_PROCESS virtual devices (default 1); GPUs are shared out evenly. Ends
# with the status of the first process that fails, and ends the others.
set -eu
count=$1
shift
port=${PORT:-$((20000 + $$ % 20000))}
python=${PYTHON:-python}
export XLA_FLAGS="${XLA_FLAGS:-} --xla_force_host_platform_device_count=${DEVICES_PER_PROCESS:-1}"
gpus=$(nvidia-smi --list-gpus 2>/dev/null | wc -l)
each=$((gpus / count))
pids=
stop() { for pid in $pids; do kill "$pid" 2>/dev/null || true; done; }
trap stop EXIT INT TERM
id=0
while [ "$id" -lt "$count" ]; do
    if [ "$each" -gt 0 ]; then
        visible=$(seq -s, $((id * each)) $((id * each + each - 1)))
        export CUDA_VISIBLE_DEVICES="$visible"
    fi
    "$python" "$@" --coordinator "127.0.0.1:$port" --num-processes "$count" \
        --process-id "$id" &
    pids="$pids $!"
    id=$((id + 1))
done
while [ -n "$pids" ]; do
    left=
    for pid in $pids; do
        if kill -0 "$pid" 2>/dev/null; then
            left="$left $pid"
        else
            wait "$pid" || exit $?
        fi
    done
    pids=$left
    sleep 0.2
done
