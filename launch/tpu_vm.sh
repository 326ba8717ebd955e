#!/usr/bin/env bash
# A run on a Cloud TPU VM, one host or a pod slice: every command reaches all workers. Not run on a TPU so far; tests/launch/ says what was tested.
#   launch/tpu_vm.sh [--dry-run] babysit ARGS...     create, copy, start; again after a preemption, until the run has ended
#   launch/tpu_vm.sh [--dry-run] create | copy | start ARGS... | follow | status | stop | delete
#   launch/tpu_vm.sh [--dry-run] fetch gs://BUCKET/runs/ner DIRECTORY
# ARGS are those of `python -m flaxft.main`. With --workdir=gs://BUCKET/runs/ner a run that is started again goes on from its last checkpoint.
# Settings: TPU_ZONE, without a default; TPU_NAME=flaxft, TPU_TYPE=v5litepod-8, TPU_VERSION=v2-alpha-tpuv5-lite, TPU_PROJECT, TPU_SPOT=1 for spot, and
# TPU_POLL=60, the seconds between two looks of babysit.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
name=${TPU_NAME:-flaxft}
dry=
if [ "${1:-}" = --dry-run ]; then
  dry=1
  shift
fi

run() {
  if [ -n "$dry" ]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

tpu() { # VERB ARGS...
  run gcloud compute tpus tpu-vm "$1" "$name" --zone="$TPU_ZONE" ${TPU_PROJECT:+--project="$TPU_PROJECT"} "${@:2}"
}

worker() { # VERB ARGS...: launch/tpu_worker.sh on all workers
  local one command="bash flaxft/launch/tpu_worker.sh"
  for one in "$@"; do # in single quotes the shell over there takes everything as it stands
    command+=" '${one//\'/\'\\\'\'}'"
  done
  tpu ssh --worker=all --command="$command"
}

create() { tpu create --accelerator-type="${TPU_TYPE:-v5litepod-8}" --version="${TPU_VERSION:-v2-alpha-tpuv5-lite}" ${TPU_SPOT:+--spot}; }
start() { worker start "$@"; }
status() { worker status; }
stop() { worker stop; }
follow() { tpu ssh --worker=0 --command='tail -n +1 -F flaxft.log'; } # process 0 writes the log
delete() { tpu delete --quiet; }
fetch() { run gcloud storage rsync --recursive "$1" "$2"; }

copy() { # the checkout as it stands, without runs and environments
  local folder code=0
  folder=$(mktemp -d)
  run tar -C "$root" --exclude=./.git --exclude=./.venv --exclude=./runs --exclude='./.*_cache' -czf "$folder/flaxft.tgz" . &&
    run gcloud compute tpus tpu-vm scp "$folder/flaxft.tgz" "$name:flaxft.tgz" --zone="$TPU_ZONE" ${TPU_PROJECT:+--project="$TPU_PROJECT"} --worker=all &&
    tpu ssh --worker=all --command='mkdir -p flaxft && tar -C flaxft -xzf flaxft.tgz' || code=$?
  rm -r -- "$folder"
  return $code
}

again() { # all workers together: one process alone cannot go on
  stop || true
  copy && start "$@" || echo "the workers do not answer; another try in ${TPU_POLL:-60} s"
}

babysit() {
  local state found
  if [ -n "$dry" ]; then
    create && copy && start "$@"
    return
  fi
  while true; do
    state=$(tpu describe --format='value(state)' 2>/dev/null || echo MISSING)
    case $state in
      MISSING) create || echo "no TPU yet; another try in ${TPU_POLL:-60} s" ;; # most often there is no capacity
      PREEMPTED | TERMINATED | STOPPED) echo "the TPU is $state" && { delete || true; } ;;
      READY)
        found=$(status | tr -d '\r' | grep '^flaxft: ' | sort -u || true) # one line a worker
        if [ "$found" = "flaxft: ended with 0" ]; then
          echo "the run has ended"
          return
        elif [[ $found =~ ended\ with\ ([1-5])$ || $found =~ ended\ with\ ([1-5])$'\n' ]]; then # a mistake, or what no second try mends
          echo "the run has ended with ${BASH_REMATCH[1]}; launch/tpu_vm.sh follow shows its log" >&2
          return "${BASH_REMATCH[1]}"
        elif [ -z "$found" ] || [[ $found == *"not started"* || $found =~ ended\ with\ [1-9] ]]; then
          echo "starting: ${found:-no answer}" | tr '\n' ' ' && echo
          again "$@"
        fi
        ;;
    esac
    sleep "${TPU_POLL:-60}"
  done
}

verb=${1:-}
case $verb in
  create | copy | start | follow | status | stop | delete | fetch | babysit) ;;
  *) sed -n '2,8s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
esac
[ -n "${TPU_ZONE:-}" ] || { echo "error: TPU_ZONE is not set; give the zone, such as TPU_ZONE=us-west4-a" >&2 && exit 2; }
"$@"
