#!/usr/bin/env bash
# The half of tpu_vm.sh that runs on each worker:  start ARGS... | status | stop.  It leaves flaxft.log, flaxft.pid and flaxft.exit in the home folder.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
export FLAXFT_EXTRA=${FLAXFT_EXTRA:-tpu} FLAXFT_DISTRIBUTED=1 # jax finds the other workers of a slice by itself

mount_bucket() { # a run reads and writes files: the bucket is a folder below ~/gcs
  mountpoint -q ~/gcs/"$1" && return
  if ! command -v gcsfuse >/dev/null; then
    curl -fsS https://packages.cloud.google.com/apt/doc/apt-key.gpg | sudo tee /usr/share/keyrings/cloud.google.asc >/dev/null
    echo "deb [signed-by=/usr/share/keyrings/cloud.google.asc] https://packages.cloud.google.com/apt gcsfuse-$(lsb_release -cs) main" |
      sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
    sudo apt-get update -q && sudo apt-get install -qy gcsfuse
  fi
  mkdir -p ~/gcs/"$1"
  gcsfuse --implicit-dirs "$1" ~/gcs/"$1"
}

running() { [ -f ~/flaxft.pid ] && kill -0 "$(cat ~/flaxft.pid)" 2>/dev/null; }

start() {
  local one given=()
  running && { echo "a run is going on; stop it first" >&2 && exit 1; }
  for one in "$@"; do
    if [[ $one =~ ^(-[^=]*=)?gs://([^/]+)(.*)$ ]]; then
      mount_bucket "${BASH_REMATCH[2]}"
      one="${BASH_REMATCH[1]}$HOME/gcs/${BASH_REMATCH[2]}${BASH_REMATCH[3]}"
    fi
    given+=("$one")
  done
  rm -f ~/flaxft.exit
  setsid nohup "${BASH_SOURCE[0]}" run "${given[@]}" >~/flaxft.log 2>&1 </dev/null &
  echo $! >~/flaxft.pid
}

run() {
  local code=0 child
  if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then # images of Ubuntu 22.04 have 3.10
    python3 -m pip install -q --user uv
    ~/.local/bin/uv python install -q 3.12
    FLAXFT_PYTHON=$(~/.local/bin/uv python find 3.12)
    export FLAXFT_PYTHON
  fi
  cd -- "$root"
  launch/local.sh "$@" &
  child=$!
  trap 'kill -TERM $child' TERM # Python saves a checkpoint; this shell stays to write down how it ended
  wait $child || code=$?
  while kill -0 $child 2>/dev/null; do # a trap ends a wait early
    code=0
    wait $child || code=$?
  done
  echo $code >~/flaxft.exit.tmp
  mv ~/flaxft.exit.tmp ~/flaxft.exit
}

status() {
  if [ -f ~/flaxft.exit ]; then
    echo "flaxft: ended with $(cat ~/flaxft.exit)"
  elif running; then
    echo "flaxft: running"
  else
    echo "flaxft: not started" # or gone without a word: the machine was restarted
  fi
}

stop() { # within two minutes, which is more than a checkpoint takes
  local second
  running || return 0
  kill -TERM "$(cat ~/flaxft.pid)"
  for second in {1..120}; do
    running || return 0
    sleep 1
  done
  echo "still there after $second s; killed" >&2
  kill -KILL -- "-$(cat ~/flaxft.pid)"
}

"$@"
