#!/usr/bin/env bash
# Tests a checkpoint on several GPUs of one machine, or of several machines if started once on each.
set -euo pipefail

if [ $# -lt 3 ]; then
  cat >&2 <<'TEXT'
usage: bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of test.py]
  GPUS is the number of processes on this machine.
  Several machines: set NNODES, NODE_RANK (0 on the first), MASTER_ADDR (of the first) and PORT.
TEXT
  exit 2
fi
CONFIG="$1"
CHECKPOINT="$2"
GPUS="$3"

source "$(dirname "${BASH_SOURCE[0]}")/_venv.sh"
exec "$(dpt_python)" -m torch.distributed.run \
  --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
  --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
  --nproc_per_node="$GPUS" \
  "$DPT_ROOT/tools/test.py" "$CONFIG" "$CHECKPOINT" --launcher pytorch "${@:4}"
