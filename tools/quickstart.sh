#!/usr/bin/env bash
# Installs dpt, then trains and tests a small DPT on synthetic scenes, in minutes on a CPU.
# For PYTHON and VENV see tools/_venv.sh.
set -eEuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/_venv.sh

# Waiting threads sleep; if another program keeps a core busy, spinning threads slow training tenfold.
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

# miou LOG: prints the mIoU (in per cent) of the last RESULT line.
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
checkpoint="$WORK_DIR/$(cat "$WORK_DIR/last_checkpoint")" # relative to the work directory

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
The README continues with ADE20K and your own data.
TEXT

STEP="the check that the mIoU is at least $LOWEST_MIOU"
awk -v got="$augmented" -v lowest="$LOWEST_MIOU" 'BEGIN { exit !(got >= lowest) }'
