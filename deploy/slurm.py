"""Workers from Slurm for one command: one GPU and one worker per job.

    python deploy/slurm.py --jobs 8 -- reproduce --profile paper

Run it on a login node, in a folder that all nodes see. Jobs come and go with the work; a worker ends itself
before its walltime does, so that no shard is taken for one that kills workers.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

import dask

SETTINGS = {
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.scheduler.allowed-failures": 100,
}
PROLOGUE = [
    "export OMP_NUM_THREADS=1",
    "export DASK_DISTRIBUTED__WORKER__MEMORY__TARGET=False",
    "export DASK_DISTRIBUTED__WORKER__MEMORY__SPILL=False",
    "export DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE=False",
]


def settings(minutes: int, partition: str | None = None, account: str | None = None) -> dict:
    """Arguments of `dask_jobqueue.SLURMCluster`."""
    lifetime = max(1, minutes - 10)
    return {
        "cores": 1,
        "job_cpu": 2,
        "processes": 1,
        "memory": "24GB",
        "walltime": f"{minutes // 60:02}:{minutes % 60:02}:00",
        "queue": partition,
        "account": account,
        "job_extra_directives": ["--gres=gpu:1"],
        "job_script_prologue": PROLOGUE,
        # Not all at once, so that the scheduler is not left without workers.
        "worker_extra_args": ["--lifetime", f"{lifetime}m", "--lifetime-stagger", "4m"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=8, help="GPUs at most")
    parser.add_argument("--minutes", type=int, default=240, help="walltime of a job")
    parser.add_argument("--partition", help="of Slurm")
    parser.add_argument("--account", help="of Slurm")
    parser.add_argument("command", nargs="+", help="of sgaplus: study run rd, reproduce --profile paper")
    chosen = parser.parse_args()

    from dask_jobqueue import SLURMCluster

    with (
        dask.config.set(SETTINGS),
        SLURMCluster(**settings(chosen.minutes, chosen.partition, chosen.account)) as cluster,
    ):
        cluster.adapt(minimum_jobs=1, maximum_jobs=chosen.jobs)
        print(f"dashboard: {cluster.dashboard_link}; waiting for Slurm to start the first job", flush=True)
        cluster.wait_for_workers(1)
        asked = [*chosen.command, "--scheduler", cluster.scheduler_address]
        return subprocess.run([sys.executable, "-m", "sgaplus", *asked]).returncode


if __name__ == "__main__":
    sys.exit(main())
