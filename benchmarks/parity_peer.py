"""MMSegmentation's side of ``parity.py``, which runs this script with the Python of the peer environment.

Example:
    PEER_PYTHON benchmarks/parity_peer.py JOB.json
"""

import sys
import warnings

from parity_chain import LINKS
from parity_chain.job import Job, save_arrays
from parity_chain.side import MMSegSide


def main() -> None:
    """Compute all links of the job."""
    warnings.filterwarnings('ignore')
    job = Job.read(sys.argv[1])
    side = MMSegSide(job)
    for name in job.links:
        for case, arrays in LINKS[name].produce(side):
            save_arrays(job.arrays_path(name, case), arrays)


if __name__ == '__main__':
    main()
