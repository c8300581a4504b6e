"""How far both sides are, and how long it will take."""

import json
import subprocess
import sys
import threading
import time

from . import LINKS
from .job import Job


class Progress:
    """A line on stderr for every case that a side has done, with the time that is left.

    Args:
        job: What both sides have to do.
        peer: The peer's process, which prints a line of JSON for every case.
    """

    def __init__(self, job: Job, peer: subprocess.Popen) -> None:
        self.costs = {
            (name, case): cost for name in job.links for case, cost in LINKS[name].cases(job).items()
        }
        self.left = {'dpt': sum(self.costs.values()), 'peer': sum(self.costs.values())}
        self.total = self.left['dpt']
        self.start = time.monotonic()
        self.lock = threading.Lock()
        threading.Thread(target=self._listen, args=(peer,), daemon=True).start()

    def _listen(self, peer: subprocess.Popen) -> None:
        for line in peer.stdout:
            said = json.loads(line)
            self.done('peer', said['link'], said['case'])

    def done(self, side: str, link: str, case: str) -> None:
        """Take note that a side has computed a case."""
        with self.lock:
            self.left[side] -= self.costs[link, case]
            elapsed = time.monotonic() - self.start
            slowest = max(self.left.values())  # the sides work at the same time
            done = self.total - slowest
            left = f', about {_clock(elapsed * slowest / done)} left' if done > 0 else ''
            print(f'[{_clock(elapsed)}{left}] {link} {case}: {side}', file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    return f'{int(seconds) // 60}:{int(seconds) % 60:02d}'
