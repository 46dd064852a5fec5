"""What a run tells of itself: a line for each job, the time that is left, a summary."""

import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ... import io
from ...errors import UserError
from ...jobs import Job
from .. import planning
from ..planning import Task
from .shards import Done, Failure


@dataclass(frozen=True)
class Event:
    """What a run has to say after a (λ, method, seed), or after copying.

    Attributes:
        done, of: jobs that are over, jobs of the profile whose codec and image are on this computer.
        what: what was done, in words.
        seconds_left: for what is missing, at the pace of this run; None before there is one.
    """

    done: int
    of: int
    what: str
    seconds_left: float | None


@dataclass(frozen=True)
class Summary:
    """What a run came to.

    Attributes:
        stored: jobs that it computed.
        failures: jobs that came to nothing.
        seconds: of computing, by worker.
        idle: the share of the workers' time in which they computed nothing; None where nothing was computed.
    """

    stored: int
    failures: list[Failure]
    seconds: dict[str, float]
    idle: float | None


class Journal:
    """Keeps account of what workers do, and appends a line of JSON for each job to a file.

    Args:
        about: what every line says, such as the study.

    Raises:
        UserError: the file cannot be written to.
    """

    def __init__(self, path: Path | None = None, **about: str):
        self._path, self._about = path, about
        self._stored, self._failures = 0, []  # type: int, list[Failure]
        self._seconds: dict[str, float] = defaultdict(float)
        self._begun = self._looked = time.monotonic()
        self._offered = 0.0
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.open("a", encoding="utf-8").close()
            except OSError as error:
                raise UserError(f"cannot write the log {path}: {io.reason(error)}") from error

    def look(self, workers: int) -> None:
        """So many workers have been there since the last look."""
        now = time.monotonic()
        self._offered += workers * (now - self._looked)
        self._looked = now

    def done(self, done: Done) -> None:
        """A shard is stored, but for what came to nothing."""
        self._seconds[done.worker] += done.seconds
        self._stored += len(done.results)
        each = done.seconds / max(1, len(done.results) + len(done.failures))
        for result in done.results:
            self._line(result.job, "stored", worker=done.worker, seconds=round(each, 3))
        for failure in done.failures:
            self.failed(failure, worker=done.worker)

    def failed(self, failure: Failure, **how: str) -> None:
        """A job came to nothing."""
        self._failures.append(failure)
        self._line(failure.job, "failed", reason=failure.reason, **how)

    def _line(self, job: Job, status: str, **how: object) -> None:
        if self._path is None:
            return
        shown = ("key", "codec", "codec_lmbda", "lmbda", "label", "image", "iterations", "seed")
        line = {"time": datetime.now(UTC).isoformat(timespec="seconds"), **self._about, "status": status}
        line |= {name: getattr(job, name) for name in shown} | how
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def summary(self) -> Summary:
        """So far."""
        busy = sum(self._seconds.values())
        idle = max(0.0, 1 - busy / self._offered) if self._offered and busy else None
        return Summary(self._stored, self._failures, self._seconds, idle)


class Teller:
    """Says how much is done and how long the rest takes, over all workers.

    Args:
        stored: keys of those tasks that need not run.
        progress: called with megapixel-iterations done and in all.
        report: called from time to time.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        stored: set[str],
        progress: Callable[[float, float], None] | None,
        report: Callable[[Event], None] | None,
    ):
        self._jobs, self._done = len(tasks), sum(task.job.key in stored for task in tasks)
        self._total, self._cost = planning.cost(tasks, stored), 0.0
        self._started = time.monotonic()
        self._progress, self._report = progress or (lambda done, total: None), report or (lambda event: None)
        self._open = Counter(task.cell for task in tasks if task.job.key not in stored)

    def step(self, cost: float) -> None:
        """So much of the shards in flight is done."""
        self._progress(min(self._cost + cost, self._total), self._total)

    def finish(self, tasks: Sequence[Task], ours: bool = True) -> None:
        """Tasks of one cell are done, by this run or, as it turned out, by another process."""
        if not tasks:
            return
        cost = planning.cost(tasks)
        if ours:
            self._cost += cost
        else:
            self._total -= cost
        self._done += len(tasks)
        cell = tasks[0].cell
        self._open[cell] -= len(tasks)
        if not self._open[cell]:
            codec, train, test, label, iterations, seed = cell
            lmbda = f"λ {train:g}" if train == test else f"λ {train:g} refined at {test:g}"
            steps = f", {iterations} iterations" if iterations else ""
            self.tell(f"{codec}, {lmbda}, {label}{steps}, seed {seed}")

    def tell(self, what: str) -> None:
        elapsed = time.monotonic() - self._started
        left = elapsed / self._cost * (self._total - self._cost) if self._cost else None
        self._report(Event(self._done, self._jobs, what, left))
