"""``sgaplus reproduce`` and ``verify``"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import SystemFault, UserError
from . import terminal
from .options import CODEC, Compiled, Device
from .studying import Log, Results, SchedulerAt, Workers, engine_of, kind_of, run_study
from .terminal import app, option

if TYPE_CHECKING:
    from ..studies.reproduce import Need

# Narrow names, so that the table fits 80 columns.
_NAMES = {"codec_lmbda": "λ", "label": "method", "difference": "dB"}
_FORMATS = {"λ": "{:g}", "bytes": "{:.0f}", "dB": "{:.1e}"}


@app.command()
@terminal.computing("use --device cpu, or a GPU with more memory", long=True)
def reproduce(
    profile: Annotated[
        str, option("paper (the paper's protocol, for a GPU) or cpu (reduced, for a computer without one).")
    ] = "paper",
    dry_run: Annotated[bool, option("Show what it takes, and do nothing.", None, "--dry-run")] = False,
    results: Results = None,
    device: Device = "auto",
    compiled: Compiled = False,
    workers: Workers = None,
    scheduler: SchedulerAt = None,
    log: Log = None,
) -> None:
    """Run the whole of the paper's protocol: fetch what is missing, run all studies, make the book's pages.

    Studies run in the order of their worth. Interrupted at any moment, the same command continues where it
    was. What cannot be downloaded is left out, and said; the pages show what is stored.

    - `sgaplus reproduce --profile paper --dry-run --device cuda`
    - `sgaplus reproduce --profile paper`
    - `sgaplus reproduce --profile paper --scheduler scheduler.json`
    """
    from ..studies import reproduce as reproduction

    studies = reproduction.studies_of(profile)
    meant = studies[0].profile(profile).device
    # What it would take on a GPU is worth knowing before there is one.
    kind = "cuda" if dry_run and device == "cuda" else kind_of(device, scheduler, meant)
    need = reproduction.need(studies, profile, kind, results)
    terminal.show(terminal.table(need.table, hours="{:.1f}"))
    terminal.show(f"profile {profile} on {'a GPU' if kind == 'cuda' else 'a CPU'}: {_in_words(need, kind)}")
    if dry_run:
        return
    _fetch(need)
    failures = []
    with engine_of(workers, scheduler, device) as engine:
        for study in studies:
            try:
                run_study(study, profile, kind, results, device, compiled, engine, log)
            except (UserError, SystemFault) as error:
                failures.append(study.name)
                terminal.say(f"error: {error}", "red")
    _make_pages(profile)
    if failures:
        raise SystemFault(
            f"{len(failures)} of {len(studies)} studies are not complete ({', '.join(failures)}): the same"
            " command goes on"
        )


def _in_words(need: Need, kind: str) -> str:
    """Hours, gigabytes and memory."""
    rate = "measured here" if need.measured else "assumed, nothing is measured here yet"
    names = ", ".join([*(one.spec for one in need.series), *need.datasets])
    downloads = f"{need.gigabytes:.1f} GB to download ({names})" if names else "nothing to download"
    return (
        f"about {need.hours:.1f} hours ({rate}), {downloads}, about {need.memory:.0f} GB of"
        f" {'GPU ' * (kind == 'cuda')}memory"
    )


def _fetch(need: Need) -> None:
    """Download what is missing; what cannot be had is said and left out."""
    from ..data import datasets

    steps: dict[str, Callable] = {one.spec: partial(one.fetch, progress=True) for one in need.series}
    steps |= {name: partial(datasets.fetch, name) for name in need.datasets}
    for name, fetch in steps.items():
        terminal.say(f"fetching {name}")
        try:
            fetch()
        except (UserError, SystemFault) as error:
            terminal.note(f"{name} is left out for now: {error}")


def _make_pages(profile: str) -> None:
    try:
        from companion import build
    except ImportError:
        terminal.note("the book's pages are made in a checkout of the repository")
        return
    count = build.execute_all(profile=profile, log=terminal.say)
    terminal.show(f"{count} pages were made: `make book PROFILE={profile}` puts them into _build/html")


@app.command()
def verify(
    folder: Annotated[
        Path | None,
        typer.Argument(help="Verify only the files in this folder. Default: all files.", show_default=False),
    ] = None,
    codec: Annotated[
        str | None,
        option(
            "Verify only the files of this codec; checkpoints of your own are decoded only if named here."
            " Default: the files of all codecs.",
            CODEC,
        ),
    ] = None,
    results: Results = None,
) -> None:
    """Decode the stored files and compare them with the rows that name them.

    A file is verified if its length, checksum and codec are those of its row, if it decodes, and if the
    picture has the row's PSNR. The PSNR needs the photograph (`sgaplus data list`): **compared** is the
    number of files for which it is on this computer, **dB** the largest difference. **bytes** is the mean
    size of a file. Files that no row names are reported, too.

    - `sgaplus verify`
    - `sgaplus verify data/results/streams/mshyper-s_lambda0.01`
    - `sgaplus verify --codec ./checkpoints`
    """
    from ..studies import verify as verification

    with terminal.counting("decoding") as progress:
        table = verification.verify(results, folder, codec=codec, progress=progress)
    summary = verification.summary(table).drop(columns="decoded").rename(columns=_NAMES)
    terminal.show(terminal.table(summary, **_FORMATS))
    for line in table[table["problem"] != ""].itertuples():
        terminal.say(f"{line.stream}: {line.problem}")
    verification.require(table)
    terminal.show(f"all {len(table)} files are verified")
