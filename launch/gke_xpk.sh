#!/usr/bin/env bash
# A run on a GKE cluster with TPU slices, through xpk (pip install xpk), which makes a JobSet. Not run on a cluster so far.
#   launch/gke_xpk.sh [--dry-run] ARGS...     ARGS are those of `python -m flaxft.main`; --workdir must be on a storage that the cluster mounts
# Settings: CLUSTER and IMAGE (of launch/Dockerfile with DEVICE=tpu) have no defaults; WORKLOAD=flaxft, TPU_TYPE=v5litepod-16, NUM_SLICES=1, TPU_ZONE,
# TPU_PROJECT, STORAGE (of `xpk storage attach`), MAX_RESTARTS=10, TPU_SPOT=1 for spot.
# A pod that is preempted gets SIGTERM, saves a checkpoint within the grace period, and is started again from there.
set -euo pipefail

: "${CLUSTER:?error: CLUSTER is not set; give the name of the GKE cluster}" "${IMAGE:?error: IMAGE is not set; give the image of launch/Dockerfile}"
dry=
if [ "${1:-}" = --dry-run ]; then
  dry=1
  shift
fi

command=$(printf '%q ' exec python -m flaxft.main "$@") # quoted for bash, which xpk runs it with, and on one line, which its manifest wants

xpk=(
  xpk workload create --workload="${WORKLOAD:-flaxft}" --cluster="$CLUSTER" --tpu-type="${TPU_TYPE:-v5litepod-16}" --num-slices="${NUM_SLICES:-1}"
  ${TPU_ZONE:+--zone="$TPU_ZONE"} ${TPU_PROJECT:+--project="$TPU_PROJECT"} ${STORAGE:+--storage="$STORAGE"} ${TPU_SPOT:+--spot}
  --docker-image="$IMAGE" --max-restarts="${MAX_RESTARTS:-10}" --termination-grace-period-seconds=120
  --env=FLAXFT_DISTRIBUTED=1 # jax finds the pods of a slice by itself
  --command="$command"
)
if [ -n "$dry" ]; then
  printf '%q ' "${xpk[@]}"
  echo
else
  "${xpk[@]}"
fi
