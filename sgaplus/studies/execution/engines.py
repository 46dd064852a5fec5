"""Engines: what computes shards, and what a run has to know of its workers."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass

from .shards import Order, Shard, compute


@dataclass(frozen=True)
class Sign:
    """What a worker says while it computes a shard.

    Attributes:
        shard: its number.
        worker: its address.
        done: megapixel-iterations; less than 0 when the worker takes it up.
        memory: the share of its memory that it has taken, where that is known.
    """

    shard: int
    worker: str
    done: float
    memory: float = 0.0


@dataclass(frozen=True)
class Refusal:
    """A worker that cannot take part, and why."""

    worker: str
    reason: str


class Engine:
    """This process alone, in which every step is heard; a class of other workers says how they differ.

    Attributes:
        slots: how many shards are asked for at a time.
        workers: how many there are now.
        kind: ``cpu`` or ``cuda``, what they compute on.
        free: bytes of memory that each of them has; 0 where that is not known.
        patience: seconds without a sign after which a worker hangs; None where none can.
        losses: kinds of exceptions of shards whose worker was lost.
    """

    slots = workers = 1
    patience: float | None = None
    losses: tuple[type[Exception], ...] = ()

    def __init__(self, kind: str, free: float = 0.0):
        self.kind, self.free = kind, free

    def prepare(self, order: Order) -> Iterable[str]:
        """Look at the workers before shards are asked for; what is worth saying of them.

        Raises:
            UserError: none can take part.
        """
        return ()

    def submit(self, shard: Shard, order: Order, hear: Callable[[Sign], None]) -> Future:
        """Ask for a shard; the future gives a `shards.Done` or a `Refusal`. Ctrl-C goes through."""
        future: Future = Future()
        try:
            future.set_result(compute(shard, order, lambda done: hear(Sign(shard.number, "here", done))))
        except Exception as error:
            future.set_exception(error)
        return future

    def signs(self) -> Iterator[Sign]:
        """What workers said since the last call, where it was not heard at once."""
        return iter(())

    def refuse(self, refusal: Refusal) -> None:
        """Give a worker no more shards.

        Raises:
            UserError: no worker is left.
        """

    def kick(self, worker: str) -> None:
        """Start a worker that hangs again."""

    def moved(self) -> bool:
        """Whether shards that no worker has begun have to be asked for again, as the workers are others."""
        return False

    def revive(self) -> None:
        """Find the workers again after the connection to them was lost.

        Raises:
            SystemFault: they do not come back.
        """
