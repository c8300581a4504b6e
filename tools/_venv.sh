# Functions that create the virtual environment; sourced by the other scripts.
#
#   PYTHON  interpreter for the environment, 3.10 or newer (default: python3)
#   VENV    folder of the environment (default: .venv in the repository)
# shellcheck shell=bash

DPT_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="${VENV:-$DPT_ROOT/.venv}"
TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu

say() { printf '[setup] %s\n' "$*"; }

die() {
  printf '[setup] ERROR: %s\n' "$*" >&2
  exit 1
}

# Prints the interpreter for the launchers: $PYTHON, an activated environment, $VENV, or python3.
dpt_python() {
  if [ -n "${PYTHON:-}" ]; then
    echo "$PYTHON"
  elif [ -n "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ]; then
    echo python
  elif [ -x "$VENV/bin/python" ]; then
    echo "$VENV/bin/python"
  else
    echo python3
  fi
}

# dpt_torchrun PROCESSES SCRIPT [ARGUMENTS]: replaces the shell by torchrun.
dpt_torchrun() {
  local place=(--standalone) # one machine, free port
  if [ "${NNODES:-1}" != 1 ] || [ -n "${PORT:-}" ]; then
    place=(--nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}"
      --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}")
  fi
  exec "$(dpt_python)" -m dpt.torchrun "${place[@]}" --nproc_per_node="$1" "${@:2}"
}

# dpt_make_venv runtime|test: installs the pinned versions into $VENV; returns at once if already done.
dpt_make_venv() {
  local kind="$1" started=$SECONDS stamp
  _check_interpreter
  stamp="$(_stamp)"
  if _venv_works && { _is_stamped "$kind" "$stamp" || _is_stamped test "$stamp"; }; then
    say "using $VENV"
    return
  fi
  rm -f "$VENV"/.installed-*
  _create_venv
  _install_torch
  _install_project "$kind"
  _make_cv2_importable
  printf '%s\n' "$stamp" >"$VENV/.installed-$kind"
  say "environment ready after $((SECONDS - started)) s"
}

_check_interpreter() {
  PYTHON="${PYTHON:-python3}"
  command -v "$PYTHON" >/dev/null ||
    die "'$PYTHON' was not found. Install Python 3.10 or newer (Debian, Ubuntu: apt-get install python3-venv), or set PYTHON=/path/to/python3"
  "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    die "'$PYTHON' is $("$PYTHON" --version 2>&1), but Python 3.10 or newer is needed. Set another one, e.g. PYTHON=python3.12"
}

# Prints a fingerprint of everything that the environment depends on.
_stamp() {
  local files=("$DPT_ROOT/requirements.txt" "$DPT_ROOT/pyproject.toml" "${BASH_SOURCE[0]}")
  printf '%s %s %s' "$(cat "${files[@]}" | cksum)" "$DPT_ROOT" "$("$PYTHON" --version)"
}

_is_stamped() { [ "$(cat "$VENV/.installed-$1" 2>/dev/null)" = "$2" ]; }

_venv_works() { [ -f "$VENV/pyvenv.cfg" ] && "$VENV/bin/python" -m pip --version >/dev/null 2>&1; }

_same_python() {
  local ask='import sys; print(sys.version_info[:2])'
  [ "$("$VENV/bin/python" -c "$ask")" = "$("$PYTHON" -c "$ask")" ]
}

_create_venv() {
  if _venv_works && _same_python; then return; fi
  # Clear only virtual environments, in case VENV is set to another folder by mistake.
  if [ -e "$VENV" ] && [ ! -f "$VENV/pyvenv.cfg" ] && [ -n "$(ls -A "$VENV")" ]; then
    die "$VENV exists and is not a virtual environment. Move it away, or set VENV to another path"
  fi
  say "creating $VENV with $("$PYTHON" --version)"
  if "$PYTHON" -c 'import ensurepip' 2>/dev/null && "$PYTHON" -m venv --clear "$VENV"; then return; fi
  _create_venv_without_ensurepip
}

# Debian and Ubuntu ship python3 without ensurepip, which is in the package python3-venv.
_create_venv_without_ensurepip() {
  if "$PYTHON" -m pip --version >/dev/null 2>&1 && "$PYTHON" -m venv --clear --without-pip "$VENV" &&
    "$PYTHON" -m pip --python "$VENV/bin/python" install --quiet --ignore-installed pip; then
    return
  fi
  rm -rf "$VENV"
  local package
  package="$("$PYTHON" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
  if _apt_install "$package" && "$PYTHON" -m venv "$VENV"; then return; fi
  die "Python's venv module is incomplete. Run this once, then try again: sudo apt-get update && sudo apt-get install -y $package"
}

_apt_install() {
  local as_root=()
  command -v apt-get >/dev/null || return 1
  if [ "$(id -u)" != 0 ]; then
    # Passwordless only, because a password prompt would hang an unattended script.
    sudo -n true 2>/dev/null || return 1
    as_root=(sudo -n)
  fi
  say "$1 is missing: installing it with apt-get"
  ${as_root[@]+"${as_root[@]}"} apt-get update -qq &&
    ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" >/dev/null
}

_pip() { "$VENV/bin/python" -m pip --disable-pip-version-check "$@"; }

_has_nvidia_gpu() { [ -e /proc/driver/nvidia/version ] || command -v nvidia-smi >/dev/null; }

# By default pip installs the CUDA build on Linux. Without a GPU use the CPU build, which is 20 times smaller.
_install_torch() {
  local started=$SECONDS torch
  torch="$(sed -n 's/^\(torch==[^ ;#]*\).*/\1/p' "$DPT_ROOT/requirements.txt")"
  if [ "$(uname -s)" != Linux ] || _has_nvidia_gpu; then
    say "installing $torch (on Linux the CUDA build, several GB)"
    _pip install "$torch"
  else
    say "installing $torch: no NVIDIA GPU found, so the CPU build (200 MB) if available, else the CUDA build (several GB)"
    # pip skips an index that it cannot reach: quickly at the first attempt, after retries at the second.
    _pip install --no-deps --extra-index-url "$TORCH_CPU_INDEX" --retries 0 --timeout 10 "$torch" ||
      _pip install --no-deps --extra-index-url "$TORCH_CPU_INDEX" "$torch"
  fi
  say "torch installed in $((SECONDS - started)) s"
}

_install_project() {
  local started=$SECONDS wanted=(-c "$DPT_ROOT/requirements.txt")
  if [ "$1" = test ]; then wanted=(-r "$DPT_ROOT/requirements.txt"); fi
  say "installing the other packages and dpt ($1)"
  _pip install --quiet "${wanted[@]}" -e "$DPT_ROOT"
  say "packages installed in $((SECONDS - started)) s"
}

# opencv-python needs libGL, which a machine without a desktop lacks; the headless build does not.
_make_cv2_importable() {
  local version
  if "$VENV/bin/python" -c 'import cv2' 2>/dev/null; then return; fi
  version="$("$VENV/bin/python" -c 'import importlib.metadata as m; print(m.version("opencv-python"))')"
  say "opencv-python $version lacks system libraries: installing opencv-python-headless instead"
  _pip install --quiet --force-reinstall --no-deps "opencv-python-headless==$version"
  "$VENV/bin/python" -c 'import cv2'
}
