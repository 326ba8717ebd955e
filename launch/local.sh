#!/usr/bin/env bash
# Starts a run on this machine, and makes the environment first where there is none.
#   launch/local.sh --config=configs/ner.py --workdir=runs/ner
# FLAXFT_VENV names another environment than .venv at the top of the checkout.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
venv=${FLAXFT_VENV:-$root/.venv}

# Asks for the package, not for the folder: an install that was interrupted is finished here.
if ! "$venv/bin/pip" show -q flaxft >/dev/null 2>&1; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q -e "$root"
fi
exec "$venv/bin/python" -m flaxft.main "$@"
