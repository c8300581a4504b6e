"""The peer's side of ``parity.py``, which starts it under the Python that holds MMSegmentation.

Example:
    PEER_PYTHON benchmarks/parity_peer.py JOB.json
"""

import json
import os
import sys
import warnings

from parity_chain import LINKS
from parity_chain.job import Job, save_arrays
from parity_chain.side import open_side


def main() -> None:
    """Compute every link of the job; a line of JSON on stdout for each case that is done."""
    warnings.filterwarnings('ignore')
    report = os.dup(1)
    os.dup2(2, 1)  # the framework prints on stdout
    job = Job.read(sys.argv[1])
    side = open_side('mmseg', job)
    for name in job.links:
        for case, arrays in LINKS[name].produce(side):
            save_arrays(job.arrays_path(name, case), arrays)
            os.write(report, (json.dumps(dict(link=name, case=case)) + '\n').encode())


if __name__ == '__main__':
    main()
