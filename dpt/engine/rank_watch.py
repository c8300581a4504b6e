"""Every process of a job shows that it lives and where it stands; one that does not is called by name."""

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn

from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.distributed import PrefixStore, Store, TCPStore

from dpt.engine.work_dir import RESTARTS
from dpt.registry import HOOKS

LOOKS = 20
"""How often a process looks at the others within the time-out."""
LONGEST_INTERVAL = 5.0
"""Seconds between two looks at most."""
DONE = 'done'
"""What a process shows that has reached its end."""


@dataclass
class Peer:
    """What is known of another process."""

    shown: str = ''
    steps: int = 0
    silent: int = 0  # looks since it last showed anything
    behind: int = 0  # looks since it last moved while this process is ahead

    def look(self, shown: str | None, own_steps: int) -> None:
        """Take note of what the process has put into the store; ``None`` where the store does not answer."""
        if self.shown == DONE:  # it needs nobody any more
            return
        if not shown or shown == self.shown:
            self.silent += 1
            self.behind += own_steps > self.steps
            return
        self.silent, self.shown = 0, shown
        if shown == DONE:
            self.behind = 0
            return
        steps = int(shown.split()[1])
        self.behind = self.behind + 1 if steps == self.steps < own_steps else 0
        self.steps = steps

    @property
    def where(self) -> str:
        """Machine and process id."""
        parts = self.shown.split()
        return f' (process {parts[3]} on {parts[2]})' if parts else ''


class RankWatch(threading.Thread):
    """Shows in a store that this process lives and where it stands, and looks at the others.

    The first process looks at all, all others at the first. Time is counted in looks of its own, so that a
    whole job that was suspended and goes on accuses nobody.

    Args:
        store: Where processes show themselves; a connection that nothing else uses.
        rank: This process's rank.
        world_size: Number of processes.
        timeout: Seconds in which a process has to show itself, and to catch up with this one.
        lost: Called with a line of text about the process that did not.
    """

    def __init__(
        self, store: Store, rank: int, *, world_size: int, timeout: float, lost: Callable[[str], object]
    ) -> None:
        super().__init__(name='rank watch', daemon=True)
        self.store = store
        self.rank = rank
        self.peers = {peer: Peer() for peer in (range(1, world_size) if rank == 0 else [0])}
        self.timeout = timeout
        self.interval = min(timeout / LOOKS, LONGEST_INTERVAL)
        self.lost = lost
        self.steps = 0
        self._beats = 0
        self._stopped = threading.Event()

    def run(self) -> None:
        """Look until :meth:`stop` is called or somebody is lost."""
        while not self._stopped.wait(self.interval):
            if text := self.look():
                self.lost(text)
                return

    def stop(self) -> None:
        """Look no more, and tell the others that this process is about to end."""
        self._stopped.set()
        self.join()
        self._show(DONE)

    def look(self) -> str:
        """Show this process, look at the others, and return what is wrong; empty where nothing is."""
        self._beats += 1
        own_steps = self.steps
        self._show(f'{self._beats} {own_steps} {socket.gethostname()} {os.getpid()}')
        for rank, peer in self.peers.items():
            peer.look(self._read(rank), own_steps)
            if peer.silent * self.interval >= self.timeout:
                return (
                    f'rank {rank}{peer.where} has given no sign of life for {self.timeout:g} s: it was '
                    'stopped or killed, or its machine cannot be reached'
                )
            if peer.behind * self.interval >= self.timeout:
                return (
                    f'rank {rank}{peer.where} lives but has not moved on for {self.timeout:g} s, and rank '
                    f'{self.rank} waits for it: it hangs, in reading data perhaps'
                )
        return ''

    def _show(self, text: str) -> None:
        # The first process or torchrun holds the store: it may be gone, or at its end.
        with contextlib.suppress(RuntimeError):
            self.store.set(str(self.rank), text)

    def _read(self, rank: int) -> str | None:
        try:
            return self.store.get(str(rank)).decode() if self.store.check([str(rank)]) else None
        except RuntimeError:
            return None


def _end(text: str) -> NoReturn:
    """End this process, whose main thread waits for another one for ever; the launcher ends the rest."""
    print(
        f'error: {text}. This process ends, and the job with it: nothing that was saved is lost. The '
        'time-out is rank_timeout of the config',
        file=sys.stderr,
        flush=True,
    )
    os._exit(1)


@HOOKS.register_module()
class RankWatchHook(Hook):
    """Ends the job, with the name of the rank, when a process was stopped, has died or hangs.

    The launcher sees only that a process of its own machine has died, and collectives that time out do not
    say who was missing.

    Args:
        timeout: Seconds without a sign of life, or without moving on while others wait.
    """

    priority = 'HIGHEST'

    def __init__(self, timeout: float) -> None:
        if timeout <= 0:
            raise ValueError(f'rank_timeout={timeout} must be a number of seconds above 0')
        self.timeout = timeout
        self.watch: RankWatch | None = None

    def before_run(self, runner: Runner) -> None:
        """Start to look."""
        rank, world_size = get_dist_info()
        if world_size == 1:
            return
        address, port = os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT'])
        store = TCPStore(address, port, is_master=False, timeout=timedelta(seconds=self.timeout))
        prefix = f'rank_watch/{os.environ.get(RESTARTS, "0")}'
        self.watch = RankWatch(
            PrefixStore(prefix, store), rank, world_size=world_size, timeout=self.timeout, lost=_end
        )
        self.watch.start()

    def before_train_iter(self, *arguments: object, **named: object) -> None:  # noqa: D102
        self._step()

    after_train_iter = before_val_iter = after_val_iter = before_train_iter
    before_test_iter = after_test_iter = before_train_iter

    def _step(self) -> None:
        if self.watch is not None:
            self.watch.steps += 1

    def after_run(self, runner: Runner) -> None:
        """Look no more: the processes end one after the other."""
        if self.watch is not None:
            self.watch.stop()
