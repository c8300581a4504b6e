#!/usr/bin/env bash
# Installs dpt, then trains and tests a small DPT on synthetic scenes, in minutes on a CPU:
#   bash tools/quickstart.sh          # segmentation
#   bash tools/quickstart.sh depth    # depth
# For PYTHON and VENV see tools/_venv.sh.
set -eEuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/_venv.sh

# Waiting threads sleep; if another program keeps a core busy, spinning threads slow training tenfold.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}"
TASK="${1:-segmentation}"
case "$TASK" in
  segmentation)
    NAME=quickstart
    SCORE=mIoU # per cent; a constant prediction gets 7
    VIEWS='several scales and flip'
    LIMIT='at least 60'
    DATA_OPTION=''
    ;;
  depth)
    NAME=quickstart_depth
    SCORE=abs_rel # mean relative error; a constant prediction gets 0.5
    VIEWS='with flip'
    LIMIT='at most 0.12'
    DATA_OPTION=--depth
    ;;
  *)
    echo "usage: bash tools/quickstart.sh [segmentation|depth]" >&2
    exit 2
    ;;
esac
CONFIG=configs/$NAME.py
WORK_DIR=work_dirs/$NAME
OVERLAYS=$WORK_DIR/overlays

STEP=installation
trap 'echo "[quickstart] FAILED during $STEP (exit status $?)" >&2; exit 1' ERR

step() {
  STEP="$1"
  printf '\n[quickstart] %s\n' "$1"
}

# score LOG: prints the score of the last RESULT line.
score() {
  "$VENV/bin/python" - "$1" "$SCORE" <<'PY'
import json
import sys

lines = [line[7:] for line in open(sys.argv[1], encoding='utf-8') if line.startswith('RESULT ')]
if not lines:
    sys.exit(f'{sys.argv[1]}: no line starts with RESULT')
value = json.loads(lines[-1])[sys.argv[2]]
print(f'{value:.2f}' if sys.argv[2] == 'mIoU' else f'{value:.4f}')
PY
}

# line TITLE VALUE: prints a line of the result.
line() { printf '%-30s %s\n' "$1:" "$2"; }

step 'installation'
dpt_make_venv runtime
PY="$VENV/bin/python"
began=$SECONDS

step 'data set'
"$PY" tools/make_quickstart_data.py "data/$NAME" ${DATA_OPTION:+"$DATA_OPTION"}

step 'training'
"$PY" tools/train.py "$CONFIG" --work-dir "$WORK_DIR"
checkpoint="$WORK_DIR/$(cat "$WORK_DIR/last_checkpoint")" # relative to the work directory

step 'test, single scale'
"$PY" tools/test.py "$CONFIG" "$checkpoint" | tee "$WORK_DIR/test_single_scale.log"

step "test, $VIEWS"
"$PY" tools/test.py "$CONFIG" "$checkpoint" --aug-test --show-dir "$OVERLAYS" | tee "$WORK_DIR/test_aug.log"

step 'result'
single="$(score "$WORK_DIR/test_single_scale.log")"
augmented="$(score "$WORK_DIR/test_aug.log")"
line "$SCORE, single scale" "$single"
line "$SCORE, $VIEWS" "$augmented"
line 'pictures' "$PWD/$OVERLAYS"
line 'checkpoint' "$checkpoint"
line 'time after the installation' "$((SECONDS - began)) s"
cat <<TEXT

Next:
  source $VENV/bin/activate
  tensorboard --logdir work_dirs   # curves
The README continues with ADE20K and your own data.
TEXT

STEP="the check that the $SCORE is $LIMIT"
awk -v got="$augmented" -v limit="$LIMIT" \
  'BEGIN { split(limit, words, " "); exit !(words[2] == "least" ? got >= words[3] : got <= words[3]) }'
