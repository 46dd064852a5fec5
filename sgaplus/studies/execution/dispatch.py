"""The loop that hands shards to an engine, and what it does when one of them gets into trouble.

A shard whose worker is lost runs again, as it is: only then are its rows those of an undisturbed run, to the
last bit. Where memory ran out it is halved, and the rows of smaller batches differ by rounding. A worker that
hangs is started again.
"""

import itertools
import queue
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field

from ...errors import first_line
from ...store import Store
from ..planning import Room, Task
from .engines import Engine, Refusal, Sign
from .journal import Journal, Teller
from .shards import Done, Failure, Order, Shard, keep

_TICK = 0.5  # seconds between two looks at the workers
# A shard whose worker was lost with this share of its memory taken, or so often before the first step was
# done, had too little memory. Twice may be chance where workers are killed for other reasons.
_FULL = 0.8
_DEATHS_BEFORE_A_STEP = 3
# Losses, and hangs, after which a job is given up.
_DEATHS, _HANGS = 10, 2


@dataclass(eq=False)
class _Flight:
    """A shard that was asked for."""

    shard: Shard
    future: Future = field(default_factory=Future)
    worker: str = ""  # that has it
    heard: float = 0.0
    done: float = 0.0
    memory: float = 0.0
    deaths: int = 0
    early: int = 0  # deaths in a row before a step was done
    hangs: int = 0


class Dispatch:
    """One run's shards on one engine.

    Args:
        room: learns from every shard how much memory it takes.
    """

    def __init__(self, engine: Engine, order: Order, room: Room, teller: Teller, journal: Journal):
        self._engine, self._order, self._room = engine, order, room
        self._teller, self._journal = teller, journal
        self._store = Store(order.store)
        self._numbers = itertools.count()
        self._flights: dict[int, _Flight] = {}
        self._again: deque[_Flight] = deque()
        self._landed: queue.SimpleQueue[tuple[int, Future]] = queue.SimpleQueue()

    def run(self, groups: Iterator[Sequence[Task]]) -> None:
        """Compute groups of tasks, each made when a worker is free for it, and store what comes back.

        Raises:
            UserError: no worker can take part.
            SystemFault: the disk is full, or the workers are gone.
        """
        flights = (_Flight(Shard(tuple(group), next(self._numbers))) for group in groups)
        try:
            while True:
                while len(self._flights) < self._engine.slots:
                    flight = self._again.popleft() if self._again else next(flights, None)
                    if flight is None:
                        break
                    self._submit(flight)
                if not self._flights:
                    return
                self._settle_what_landed()
                self._look()
        finally:
            for flight in self._flights.values():
                flight.future.cancel()

    def _submit(self, flight: _Flight) -> None:
        number = flight.shard.number
        flight.worker, flight.done, flight.memory = "", 0.0, 0.0
        self._flights[number] = flight
        flight.future = self._engine.submit(flight.shard, self._order, self._hear)
        flight.future.add_done_callback(lambda future: self._landed.put((number, future)))

    def _settle_what_landed(self) -> None:
        """Wait a tick for a shard, and take all that are there."""
        lost, wait = False, True
        while True:
            try:
                number, future = self._landed.get(timeout=_TICK) if wait else self._landed.get_nowait()
            except queue.Empty:
                break
            wait = False
            for sign in self._engine.signs():
                self._hear(sign)
            flight = self._flights.get(number)
            if flight is not None and flight.future is future:  # else it was given up meanwhile
                del self._flights[number]
                lost |= self._settle(flight, future)
        if lost:
            self._again.extend(self._flights.values())
            self._flights.clear()
            self._engine.revive()

    def _settle(self, flight: _Flight, future: Future) -> bool:
        """Take what came of a shard; whether the connection to the workers was lost."""
        try:
            outcome = future.result()
        except CancelledError:
            self._again.append(flight)
            return True
        except MemoryError as error:
            if len(flight.shard.tasks) == 1 and self._engine.slots == 1:
                raise  # there is no other worker, nor anything smaller
            self._halve(flight, f"there is not enough memory ({error})")
        except self._engine.losses as error:
            if not self._died(flight, first_line(error)):
                self._again.append(flight)
        else:
            if isinstance(outcome, Refusal):
                self._again.append(flight)
                self._teller.tell(f"worker {outcome.worker} takes no part: {outcome.reason}")
                self._engine.refuse(outcome)
            else:
                self._take(flight.shard, outcome)
        return False

    def _take(self, shard: Shard, done: Done) -> None:
        for result in done.results:
            keep(self._store, self._order.root, result)
        if done.bytes_per_pixel:
            self._room.learn(shard.tasks[0].codec, done.bytes_per_pixel)
        self._journal.done(done)
        self._teller.finish(shard.tasks)
        self._tell_progress()

    def _hear(self, sign: Sign) -> None:
        flight = self._flights.get(sign.shard)
        if flight is None:
            return
        # A worker takes it up although another has it: that one was lost.
        if sign.done < 0 and flight.worker and self._died(flight, "its worker was lost"):
            self._drop(flight)
            return
        flight.worker, flight.heard = sign.worker, time.monotonic()
        flight.done, flight.memory = max(0.0, sign.done), sign.memory
        self._tell_progress()

    def _tell_progress(self) -> None:
        self._teller.step(sum(flight.done for flight in self._flights.values()))

    def _died(self, flight: _Flight, how: str) -> bool:
        """A shard's worker was lost; whether it is therefore not computed as it is."""
        flight.deaths += 1
        flight.early = 0 if flight.done else flight.early + 1
        full = flight.early >= _DEATHS_BEFORE_A_STEP or flight.memory > _FULL
        if flight.deaths < _DEATHS and not (full and len(flight.shard.tasks) > 1):
            return False
        self._halve(flight, f"{how}, {flight.deaths} times: its memory may be too small")
        return True

    def _halve(self, flight: _Flight, reason: str) -> None:
        """Go on with two shards in place of one; one image alone comes to nothing."""
        shard = flight.shard
        if len(shard.tasks) == 1:
            self._give_up(shard, reason)
        else:
            numbers = next(self._numbers), next(self._numbers)
            self._again.extend(map(_Flight, shard.halves(numbers)))

    def _give_up(self, shard: Shard, reason: str) -> None:
        for task in shard.tasks:
            self._journal.failed(Failure(task.job, reason))
        self._teller.finish(shard.tasks)

    def _drop(self, flight: _Flight) -> None:
        """Wait for a shard no longer."""
        del self._flights[flight.shard.number]
        flight.future.cancel()

    def _look(self) -> None:
        """After the workers."""
        for sign in self._engine.signs():
            self._hear(sign)
        self._journal.look(self._engine.workers)
        patience = self._engine.patience
        for flight in list(self._flights.values()):
            if patience and flight.worker and time.monotonic() - flight.heard > patience:
                flight.hangs += 1
                flight.heard = time.monotonic()
                worker = flight.worker
                if flight.hangs >= _HANGS:
                    self._drop(flight)
                    self._give_up(flight.shard, f"its worker was silent for {patience:.0f} s, twice")
                self._engine.kick(worker)
        if self._engine.moved():
            for flight in [flight for flight in self._flights.values() if not flight.worker]:
                self._drop(flight)
                self._again.append(flight)
