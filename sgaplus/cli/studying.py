"""``sgaplus study``"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import SystemFault, UserError
from . import terminal
from .options import Compiled, Device
from .terminal import app, option

if TYPE_CHECKING:
    from ..studies import running, schema
    from ..studies.execution.engines import Engine
    from ..studies.execution.journal import Summary

study_app = typer.Typer(
    no_args_is_help=True, help="The paper's experiments: show what is stored, and run them."
)
app.add_typer(study_app, name="study")

_Name = Annotated[
    str, typer.Argument(help="A study that `sgaplus study list` shows, or a .yaml file.", show_default=False)
]
_Profile = Annotated[
    str | None,
    option("paper (the paper's protocol) or cpu (reduced). Default: paper if there is a GPU, else cpu."),
]
Results = Annotated[
    Path | None,
    option(
        "Folder of the results. Default: data/results of the checkout, or the folder results beside a study"
        " file from elsewhere."
    ),
]

_FORMATS = {"jobs": "{:.0f}", "stored": "{:.0f}", "minutes": "{:.1f}", "left": "{:.1f}"}


@study_app.command("list")
def study_list(results: Results = None) -> None:
    """List the studies with their numbers of jobs, of stored jobs, and of minutes.

    A job is one photograph refined with one configuration. **minutes** is the time for all jobs of a profile,
    **left** the time for those that are not stored. Both are estimated from jobs measured on this computer;
    if there are none, from an assumption about the device that the profile is meant for.
    `sgaplus study status NAME` describes one study.
    """
    import pandas as pd

    from .. import store
    from ..studies import schema, stored

    root = stored.results(root=results)
    known: dict[Path, pd.DataFrame] = {}
    rows: list[dict[str, object]] = []
    problems: dict[str, list[str]] = defaultdict(list)
    found: dict[str, list[stored.Status]] = defaultdict(list)
    for folder in stored.folders(root):
        try:
            known[folder] = store.Store(folder).load()
        except (UserError, SystemFault) as error:
            problems[str(error)].append(str(folder.relative_to(root)))
    for study in schema.load_studies():
        for profile, chosen in study.profiles.items():
            rows.append({"study": study.name, "profile": profile, "device": chosen.device})
            try:
                one = stored.status(study, profile, root=root, known=known)
            except (UserError, SystemFault) as error:
                problems[str(error)].append(f"{study.name} ({profile})")
                continue
            found[profile].append(one)
            rows[-1] |= {"jobs": one.jobs, "stored": one.stored, "left": one.minutes_left}
            rows[-1] |= {"minutes": sum(one.minutes.values())}
            rows[-1] |= {"rate": "measured" if one.measured else "assumed"}
    table = pd.DataFrame(rows, columns=["study", "profile", "device", *_FORMATS, "rate"])
    terminal.show(terminal.table(table, **_FORMATS))
    for name, states in found.items():
        minutes = {key: value for one in states for key, value in one.minutes.items()}
        left = sum(minutes[key] for key in {key for one in states for key in one.missing})
        terminal.show(
            f"{name}: {sum(minutes.values()):.0f} minutes, of which {left:.0f} are left (jobs that several"
            " studies share count once)"
        )
    for sentence in dict.fromkeys(need for states in found.values() for one in states for need in one.needs):
        terminal.note(sentence)
    for text, where in problems.items():
        terminal.note(f"{', '.join(where)}: {text}")


@study_app.command("status")
def study_status(name: _Name, profile: _Profile = None, results: Results = None) -> None:
    """Show which jobs of a study are stored and which are missing, by λ and method, and how long they take.

    **codec_lmbda** is the λ that the codec was trained with, **lmbda** that of the refinement. Jobs that are
    neither stored nor missing are stored with another study; running this one copies them.

    Example: `sgaplus study status rd --profile cpu`
    """
    from ..studies import schema, stored

    study = schema.load_study(name)
    profile = profile or _default(study)
    found = stored.status(study, profile, root=results)
    terminal.show(f"{study.title}: {'; '.join(study.shows)}")
    terminal.show(f"profile {profile}: {study.profile(profile).about}")
    terminal.show(terminal.table(found.table, codec_lmbda="{:g}", lmbda="{:g}", minutes="{:.1f}"))
    elsewhere = f", {found.elsewhere} more by other studies" if found.elsewhere else ""
    rate = "measured here" if found.measured else f"assumed for {study.profile(profile).device}"
    seconds = [rate.seconds for rate in found.rates]
    paces = " to ".join(dict.fromkeys(f"{pace:.2g}" for pace in (min(seconds), max(seconds))))
    terminal.show(
        f"{found.stored} of {found.jobs} jobs are stored{elsewhere}; about {found.minutes_left:.0f} minutes"
        f" are left ({paces} s per megapixel and iteration, {rate})"
    )
    for sentence in found.needs:
        terminal.note(sentence)


CLUSTER = "Cluster"
Workers = Annotated[
    int | None,
    option(
        "Compute with so many processes on this computer, each with a GPU of its own where there are GPUs."
        " Needs sgaplus[cluster].",
        CLUSTER,
        min=1,
    ),
]
SchedulerAt = Annotated[
    str | None,
    option(
        "Compute on a Dask cluster: its scheduler's address (tcp://host:8786) or scheduler file. Needs"
        " sgaplus[cluster].",
        CLUSTER,
        "--scheduler",
    ),
]
Log = Annotated[Path | None, option("Append a line of JSON for each job to this file.", CLUSTER)]


@study_app.command("run")
@terminal.computing("use --device cpu, or a profile with smaller images", long=True)
def study_run(
    names: Annotated[
        list[str],
        typer.Argument(help="Studies that `sgaplus study list` shows, or .yaml files.", show_default=False),
    ],
    profile: _Profile = None,
    results: Results = None,
    device: Device = "auto",
    compiled: Compiled = False,
    workers: Workers = None,
    scheduler: SchedulerAt = None,
    log: Log = None,
) -> None:
    """Run the missing jobs of studies in order of priority, one study after the other.

    Interrupted at any moment, the same command continues where it was. Jobs that another study has stored are
    copied. Two such commands that run at the same time share the work.

    - `sgaplus study run rd --profile cpu`
    - `sgaplus study run stability ssl-a learning-rate`
    - `sgaplus study run rd --workers 2`
    - `sgaplus study run rd --scheduler tcp://10.0.0.1:8786 --log jobs.jsonl`
    """
    from ..studies import schema

    chosen = [(study, profile or _default(study)) for study in map(schema.load_study, names)]
    kinds = [kind_of(device, scheduler, study.profile(name).device) for study, name in chosen]
    with engine_of(workers, scheduler, device) as engine:
        for (study, name), kind in zip(chosen, kinds, strict=True):
            run_study(study, name, kind, results, device, compiled, engine, log)


def kind_of(device: str, scheduler: str | None, meant: str) -> str:
    """What the jobs run on, ``cpu`` or ``cuda``; on a cluster elsewhere what they are meant for.

    Raises:
        UserError: there is no such device here, where it is needed.
    """
    from .. import hardware

    if scheduler is None:
        return hardware.resolve_device(device).type
    return next((kind for kind in ("cpu", "cuda") if device.startswith(kind)), meant)


@contextlib.contextmanager
def engine_of(workers: int | None, scheduler: str | None, device: str) -> Iterator[Engine | None]:
    """What computes: None where this process does.

    Raises:
        UserError: both are given, Dask is not installed, or there is no such cluster.
    """
    if workers is None and scheduler is None:
        yield None
        return
    if workers is not None and scheduler is not None:
        raise UserError("--workers starts a cluster of its own: give it or --scheduler, not both")
    try:
        from ..studies.execution import cluster
    except ImportError as error:
        raise UserError(
            f"a cluster needs Dask ({error}): install it with `pip install 'sgaplus[cluster]'`"
        ) from error
    with contextlib.ExitStack() as stack:
        where = scheduler or stack.enter_context(cluster.local(workers or 1, device))
        yield stack.enter_context(cluster.connected(where))


def run_study(
    study: schema.Study,
    profile: str,
    kind: str,
    results: Path | None,
    device: str,
    compiled: bool,
    engine: Engine | None = None,
    log: Path | None = None,
) -> None:
    """Run the missing jobs of one study, and say how it goes."""
    from ..studies import running, stored

    found = stored.status(study, profile, kind=kind, root=results)
    terminal.say(
        f"{study.name}, profile {profile}: {found.jobs - found.stored} of {found.jobs} jobs to do, "
        f"about {found.minutes_left:.0f} minutes"
    )
    for sentence in found.needs:
        terminal.note(sentence)
    with terminal.counting(study.name) as progress:
        missing = running.run(
            study,
            profile,
            device=device,
            compiled=compiled,
            root=results,
            engine=engine,
            log=log,
            summarise=_tell if engine or log else None,
            progress=progress,
            report=_say,
        )
    end = f", {missing} are left to another process" if missing else ""
    terminal.show(
        f"{study.name}, profile {profile}: rows are in {stored.store_of(study, profile, results).root}{end}"
    )


def _say(event: running.Event) -> None:
    left = "" if event.seconds_left is None else f", {event.seconds_left / 60:.0f} minutes left"
    terminal.say(f"{event.done} of {event.of} jobs{left}: {event.what}")


def _tell(summary: Summary) -> None:
    """The end of a run on a cluster."""
    idle = "" if summary.idle is None else f"; workers were idle for {100 * summary.idle:.0f} % of their time"
    terminal.say(f"{summary.stored} jobs computed, {len(summary.failures)} failed{idle}")
    for worker, seconds in sorted(summary.seconds.items()):
        terminal.say(f"  {worker}: {seconds:.0f} s")
    for failure in summary.failures:
        terminal.say(f"  failed: {failure.job.label}, {failure.job.image}: {failure.reason}", "red")


def _default(study: schema.Study) -> str:
    """The profile for this computer's device, if the study has it, else the one that it has."""
    from .. import hardware

    wanted = "paper" if hardware.resolve_device().type == "cuda" else "cpu"
    return wanted if wanted in study.profiles else next(iter(study.profiles))
