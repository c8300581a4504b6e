"""Run torchrun and exit with the status of the training: 75 if a signal stopped it and --resume continues it.

torchrun itself is killed by SIGUSR1 and leaves its processes behind. After other signals it exits with
status 1 and a traceback.

Example:
    python -m dpt.torchrun --standalone --nproc-per-node 8 tools/train.py CONFIG --launcher pytorch
"""

import os
import sys
import tempfile
from pathlib import Path

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError


def main() -> None:
    os.environ.setdefault('PET_SIGNALS_TO_HANDLE', 'SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1')
    os.environ.setdefault('PET_SHUTDOWN_TIMEOUT', '600')  # seconds to finish the step and save before SIGKILL
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, 'status')
        os.environ['DPT_STATUS_FILE'] = str(file)  # the processes write it, see dpt/engine/stop.py
        try:
            run.main()
        except (SignalException, ChildFailedError) as error:
            if file.exists():
                sys.exit(int(file.read_text()))
            if isinstance(error, SignalException):
                sys.exit(128 + error.sigval)
            raise
        except RuntimeError as error:
            if 'EADDRINUSE' not in str(error):
                raise
            sys.exit('error: the port is in use: set PORT to a free one, the same on all machines')


if __name__ == '__main__':
    main()
