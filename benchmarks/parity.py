"""Compare ``dpt`` with MMSegmentation 1.2.2 step by step, from the model to the scores.

MMSegmentation, the peer, runs in a separate environment, which benchmarks/setup_peer.sh creates. The exit
status is 0 only if every comparison holds.

Example:
    python benchmarks/parity.py --peer-python ~/peer/bin/python
"""

import argparse
import logging
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(Path(__file__).resolve().parent)]

from parity_chain import LINKS  # noqa: E402
from parity_chain.job import Job, take_arrays  # noqa: E402
from parity_chain.side import DPTSide  # noqa: E402
from parity_chain.table import Row, exit_status, render  # noqa: E402

CONFIG = REPOSITORY / 'configs' / 'dpt_vit-b16_512x512_160k_ade20k.py'
SHARED_DATA = REPOSITORY.parent / 'shared' / 'data'


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--peer-python', required=True, help='Python executable of the peer environment')
    parser.add_argument('--links', default=','.join(LINKS), help='comma-separated, some of: %(default)s')
    parser.add_argument('--quick', action='store_true', help='always use a small model instead of ViT-B')
    for name, root in (('data-root', 'camvid'), ('ade-sample-root', 'ade_sample')):
        parser.add_argument(
            f'--{name}',
            default=SHARED_DATA / root,
            help="images/ and annotations/ in ADE20K's layout (default: %(default)s)",
        )
    parser.add_argument('--draws', type=int, default=200, help='random draws from each data set')
    threads = max(1, (os.cpu_count() or 2) // 2)
    parser.add_argument('--threads', type=int, default=threads, help='number of threads per side')
    return parser.parse_args(arguments)


def make_job(args: argparse.Namespace, folder: str) -> Job:
    """Check the arguments and return the settings of both sides.

    Raises:
        ValueError: If a link is unknown.
        FileNotFoundError: If the peer's Python or a folder of images does not exist.
    """
    links = [name for name in args.links.split(',') if name]
    unknown = [name for name in links if name not in LINKS]
    if unknown or not links:
        raise ValueError(f'--links {args.links}: unknown {unknown}; choose from {",".join(LINKS)}')
    if not Path(args.peer_python).is_file():
        raise FileNotFoundError(
            f'--peer-python {args.peer_python} does not exist; create it with benchmarks/setup_peer.sh'
        )
    roots = {'CamVid': Path(args.data_root), 'ADE20K': Path(args.ade_sample_root)}
    if {'pipelines', 'predictions'} & set(links):
        for name, root in roots.items():
            if not (root / 'images').is_dir():
                raise FileNotFoundError(
                    f'{root} with images/ and annotations/ of {name} does not exist: set --data-root and '
                    '--ade-sample-root, or omit pipelines and predictions from --links'
                )
    return Job(
        folder=folder,
        config=str(CONFIG),
        links=[name for name in LINKS if name in links],
        quick=args.quick,
        data_roots={name: str(root.resolve()) for name, root in roots.items()},
        threads=args.threads,
        draws=args.draws,
    )


def compare_all(job: Job, peer: subprocess.Popen) -> list[Row]:
    """Compute the cases of dpt and compare them with the arrays of the peer, printing progress to stderr."""
    start = time.monotonic()

    def alive() -> bool:
        return peer.poll() is None

    side = DPTSide(job, alive)
    rows: list[Row] = []
    for name in job.links:
        for case, ours in LINKS[name].produce(side):
            theirs = take_arrays(job.arrays_path(name, case), alive)
            rows.extend(LINKS[name].compare(case, theirs, ours, job))
            print(f'{time.monotonic() - start:6.0f} s  {name} {case}', file=sys.stderr, flush=True)
    return rows


def run(job: Job, peer_python: str) -> list[Row]:
    """Run both sides at the same time.

    Raises:
        RuntimeError: If the peer fails; the message ends with its output.
    """
    errors = Path(job.folder) / 'peer.log'
    script = Path(__file__).with_name('parity_peer.py')
    with errors.open('wb') as log:
        command = [peer_python, str(script), str(job.write())]
        peer = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            return compare_all(job, peer)
        except RuntimeError as error:
            if peer.poll():
                said = errors.read_text(encoding='utf-8', errors='replace')[-2000:]
                raise RuntimeError(f'{error}\n{said}') from None
            raise
        finally:
            peer.kill()
            peer.wait()


def main(arguments: list[str] | None = None) -> int:
    """Run the comparisons, print the table and return the exit status."""
    args = parse_args(arguments)
    warnings.filterwarnings('ignore')
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix='parity-') as folder:
        try:
            rows = run(make_job(args, folder), args.peer_python)
        except (ValueError, FileNotFoundError, RuntimeError) as error:
            if os.environ.get('DPT_TRACEBACK'):
                raise
            print(f'error: {error}', file=sys.stderr)
            return 2
    print(render(rows))
    return exit_status(rows)


if __name__ == '__main__':
    sys.exit(main())
