#!/usr/bin/env bash
# Trains as a Slurm job, with one task per GPU.
set -euo pipefail

if [ $# -lt 3 ]; then
  cat >&2 <<'TEXT'
usage: [GPUS=4 GPUS_PER_NODE=4 CPUS_PER_TASK=5 SRUN_ARGS="..."] \
       bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG [arguments of train.py]
TEXT
  exit 2
fi
PARTITION="$1"
JOB_NAME="$2"
CONFIG="$3"
GPUS="${GPUS:-4}"
GPUS_PER_NODE="${GPUS_PER_NODE:-4}"
if [ "$GPUS" -lt "$GPUS_PER_NODE" ]; then GPUS_PER_NODE="$GPUS"; fi
read -r -a srun_args <<<"${SRUN_ARGS:-}"

source "$(dirname "${BASH_SOURCE[0]}")/_venv.sh"
exec srun -p "$PARTITION" \
  --job-name="$JOB_NAME" \
  --gres=gpu:"$GPUS_PER_NODE" \
  --ntasks="$GPUS" \
  --ntasks-per-node="$GPUS_PER_NODE" \
  --cpus-per-task="${CPUS_PER_TASK:-5}" \
  --kill-on-bad-exit=0 --wait=60 \
  ${srun_args[@]+"${srun_args[@]}"} \
  "$(dpt_python)" -u "$DPT_ROOT/tools/train.py" "$CONFIG" --launcher slurm "${@:4}"
