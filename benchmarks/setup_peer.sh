#!/usr/bin/env bash
# Makes an environment with the reference, MMSegmentation 1.2.2, from wheels alone: nothing is compiled.
#
#   [TORCH=2.13.0] [WHEELS=FOLDER] bash benchmarks/setup_peer.sh ENVIRONMENT [PYTHON]
#
# ENVIRONMENT is a folder that must not exist yet; PYTHON is the interpreter it starts from (python3). With WHEELS,
# all packages come from that folder, which "pip download" fills, and no network is used. With TORCH=shared, torch and
# whatever else PYTHON has is used from there, unless the reference needs another version.
set -euo pipefail
environment=${1:?usage: bash benchmarks/setup_peer.sh ENVIRONMENT [PYTHON]}
python=${2:-python3}
if [ -e "$environment" ]; then
    echo "$environment exists: choose another folder, or delete it" >&2
    exit 1
fi
"$python" -m venv "$environment"
offline=()
if [ -n "${WHEELS:-}" ]; then offline=(--no-index --find-links "$WHEELS"); fi
install() { "$environment/bin/python" -m pip install --quiet ${offline[@]+"${offline[@]}"} "$@"; }

packages=$("$environment/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
if [ "${TORCH:-}" = shared ]; then
    "$python" -c 'import sys; print(*filter(None, sys.path), sep="\n")' > "$packages/shared.pth"
    # MMSegmentation imports timm if it can, which fails where torchvision does not fit torch. A DPT needs neither.
    echo "raise ImportError('hidden by setup_peer.sh')" > "$packages/timm.py"
else  # before all that depends on it, which could choose another version
    install "torch==${TORCH:-2.13.0}"
fi
# mmsegmentation 1.2.2 refuses mmcv 2.2 and later; ftfy and regex are imported by a text encoder that it registers.
install 'mmengine==0.10.7' 'mmcv-lite==2.1.0' 'mmsegmentation==1.2.2' ftfy regex
# For its transform Albu; opencv-python is there already, without which albumentations would bring another build.
install --no-deps 'albumentations==2.0.8' 'albucore==0.0.24'
install scipy pyyaml pydantic stringzilla simsimd

# Some of its modules import compiled operators of mmcv that the lite package lacks and a DPT never calls:
# every name is found, and fails only when it is called.
cat > "$packages/mmcv/_ext.py" <<'PYTHON'
"""Stands for the compiled operators that mmcv-lite does not have."""


class _Absent:
    def __init__(self, name):
        self.name = name

    def __call__(self, *args, **kwargs):
        raise NotImplementedError(f'mmcv-lite has no compiled operator {self.name}')


def __getattr__(name):
    if name.startswith('__'):
        raise AttributeError(name)
    return _Absent(name)
PYTHON

"$environment/bin/python" -W ignore -c 'import mmseg.models; print("MMSegmentation", mmseg.__version__, "is ready")'
echo "Now: python benchmarks/parity.py --peer-python $environment/bin/python"
