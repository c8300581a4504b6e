#!/usr/bin/env bash
# Trains on several GPUs of one machine, or of several machines if started once on each.
set -euo pipefail

if [ $# -lt 2 ]; then
  cat >&2 <<'TEXT'
usage: bash tools/dist_train.sh CONFIG GPUS [arguments of train.py]
  GPUS is the number of processes on this machine.
  Several machines: set NNODES, NODE_RANK (0 on the first), MASTER_ADDR (of the first) and PORT (default 29500).
  One machine: a free port is used unless PORT is set.
TEXT
  exit 2
fi
CONFIG="$1"
GPUS="$2"

source "$(dirname "${BASH_SOURCE[0]}")/_venv.sh"
dpt_torchrun "$GPUS" "$DPT_ROOT/tools/train.py" "$CONFIG" --launcher pytorch "${@:3}"
