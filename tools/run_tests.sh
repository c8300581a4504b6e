#!/usr/bin/env bash
# Lint, types and tests, in the pinned environment. Arguments go to pytest: tools/run_tests.sh tests/models -k neck
# All four checks run even if one fails; the exit status is 0 only if all passed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/_venv.sh

dpt_make_venv test
PY="$VENV/bin/python"
failed=()

check() {
  local name="$1"
  shift
  printf '[tests] %s\n' "$name"
  "$@" || failed+=("$name")
}

check 'ruff check' "$PY" -m ruff check .
check 'ruff format' "$PY" -m ruff format --check .
check 'mypy' "$PY" -m mypy

# Two processes of one thread each: the suite is made of small models, which more threads only slow down.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" DPT_TEST_THREADS="${DPT_TEST_THREADS:-1}"
check 'pytest' "$PY" -m pytest -n 2 "$@"

if [ "${#failed[@]}" -gt 0 ]; then
  printf '[tests] FAILED:%s\n' "$(printf ' %s,' "${failed[@]}" | sed 's/,$//')" >&2
  exit 1
fi
