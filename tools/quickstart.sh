#!/usr/bin/env bash
# Trains a small DPT on synthetic scenes and tests it: the whole way from a clean checkout, in minutes on a CPU.
# PYTHON and VENV as in tools/_venv.sh.
set -eEuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/_venv.sh

# Threads that wait asleep: spinning ones slow training tenfold where another program keeps a core busy.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}"
CONFIG=configs/quickstart.py
WORK_DIR=work_dirs/quickstart
OVERLAYS=$WORK_DIR/overlays
LOWEST_MIOU=60 # per cent; a constant prediction gets 7

STEP=installation
trap 'echo "[quickstart] FAILED during $STEP (exit status $?)" >&2; exit 1' ERR

step() {
  STEP="$1"
  printf '\n[quickstart] %s\n' "$1"
}

# miou LOG: the mIoU of the log's last RESULT line, in per cent.
miou() {
  "$VENV/bin/python" - "$1" <<'PY'
import json
import sys

lines = [line[7:] for line in open(sys.argv[1], encoding='utf-8') if line.startswith('RESULT ')]
if not lines:
    sys.exit(f'{sys.argv[1]}: no line starts with RESULT')
print(f"{json.loads(lines[-1])['mIoU']:.2f}")
PY
}

step 'installation'
dpt_make_venv runtime
PY="$VENV/bin/python"
began=$SECONDS

step 'data set'
"$PY" tools/make_quickstart_data.py data/quickstart

step 'training'
"$PY" tools/train.py "$CONFIG" --work-dir "$WORK_DIR"
checkpoint="$WORK_DIR/$(cat "$WORK_DIR/last_checkpoint")" # relative to the folder it lies in

step 'test, single scale'
"$PY" tools/test.py "$CONFIG" "$checkpoint" | tee "$WORK_DIR/test_single_scale.log"

step 'test, several scales and flip'
"$PY" tools/test.py "$CONFIG" "$checkpoint" --aug-test --show-dir "$OVERLAYS" | tee "$WORK_DIR/test_aug.log"

step 'result'
single="$(miou "$WORK_DIR/test_single_scale.log")"
augmented="$(miou "$WORK_DIR/test_aug.log")"
cat <<TEXT
mIoU, single scale:            $single
mIoU, several scales and flip: $augmented
pictures:                      $PWD/$OVERLAYS
checkpoint:                    $checkpoint
time after the installation:   $((SECONDS - began)) s

Next:
  source $VENV/bin/activate
  tensorboard --logdir work_dirs   # curves
The README goes on with ADE20K and with data of your own.
TEXT

STEP="the comparison with the lowest mIoU that counts as learnt, $LOWEST_MIOU"
awk -v got="$augmented" -v lowest="$LOWEST_MIOU" 'BEGIN { exit !(got >= lowest) }'
