"""Engines: any `concurrent.futures.Executor`, and what a run has to know of its workers."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any

from .shards import Done, Order, Shard, compute


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
    """Shards on an executor; nothing is heard of them before they are done.

    Args:
        slots: how many shards are asked for at a time.
        kind: ``cpu`` or ``cuda``, what the workers compute on.
        free: bytes of memory that each of them has; 0 where that is not known.
    """

    # Seconds without a sign after which a worker hangs; None where nothing is heard.
    patience: float | None = None
    # Kinds of exceptions of shards whose worker was lost.
    losses: tuple[type[Exception], ...] = ()

    def __init__(self, executor: Executor, slots: int, kind: str, free: float = 0.0):
        self.executor, self.slots, self.kind, self.free = executor, slots, kind, free

    @property
    def workers(self) -> int:
        """How many there are now."""
        return self.slots

    def prepare(self, order: Order) -> Iterable[str]:
        """Look at the workers before shards are asked for; what is worth saying of them.

        Raises:
            UserError: none can take part.
        """
        return ()

    def submit(self, shard: Shard, order: Order, hear: Callable[[Sign], None]) -> Future:
        """Ask for a shard; the future gives a `shards.Done` or a `Refusal`."""
        return self.executor.submit(compute, shard, order)

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


class Here(Engine):
    """This process alone; every step is heard."""

    def __init__(self, kind: str, free: float = 0.0):
        super().__init__(_Now(), 1, kind, free)

    def submit(self, shard: Shard, order: Order, hear: Callable[[Sign], None]) -> Future:
        return self.executor.submit(
            compute, shard, order, lambda done: hear(Sign(shard.number, "here", done))
        )


class _Now(Executor):
    """Computes while it is asked to; Ctrl-C goes through."""

    def submit(self, fn: Callable, /, *args: Any, **kwargs: Any) -> Future:
        future: Future[Done] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future
