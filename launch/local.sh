#!/usr/bin/env bash
# Starts a run on this machine, and makes the environment first where there is none.
#   launch/local.sh [--dry-run] --config=configs/ner.py --workdir=runs/ner
# FLAXFT_VENV names another environment than .venv at the top of the checkout, FLAXFT_EXTRA what the accelerator needs (tpu or cuda), FLAXFT_PYTHON the
# Python that makes it.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
venv=${FLAXFT_VENV:-$root/.venv}

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

# Asks for the package, not for the folder: an install that was interrupted is finished here.
if ! "$venv/bin/python" -m pip show -q flaxft >/dev/null 2>&1; then
  run "${FLAXFT_PYTHON:-python3}" -m venv "$venv"
  run "$venv/bin/python" -m pip install -q -e "$root${FLAXFT_EXTRA:+[$FLAXFT_EXTRA]}"
fi
[ -n "$dry" ] || exec "$venv/bin/python" -m flaxft.main "$@" # replaces this shell: signals reach Python itself
run "$venv/bin/python" -m flaxft.main "$@"
