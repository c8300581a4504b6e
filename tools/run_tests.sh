#!/usr/bin/env bash
# Runs ruff, mypy and pytest in the pinned environment. Arguments are passed to pytest, for example
# tools/run_tests.sh tests/models -k neck. All checks run even if one fails; the exit status is 0 if all pass.
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

# Two processes of one thread each, because more threads only slow down the small models of the tests.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" DPT_TEST_THREADS="${DPT_TEST_THREADS:-1}"
check 'pytest' "$PY" -m pytest -n 2 --dist worksteal "$@"

if [ "${#failed[@]}" -gt 0 ]; then
  printf '[tests] FAILED:%s\n' "$(printf ' %s,' "${failed[@]}" | sed 's/,$//')" >&2
  exit 1
fi
