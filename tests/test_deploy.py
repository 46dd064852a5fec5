"""The files in ``deploy``: valid by schemas and linters, and true to each other."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from sgaplus import cli
from tests.conftest import POSIX

DEPLOY = Path(__file__).parents[1] / "deploy"
MANIFESTS = [part for path in sorted(DEPLOY.glob("*.yaml")) for part in yaml.safe_load_all(path.read_text())]


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda part: f"{part['kind']} {part['metadata']['name']}")
def test_manifests_are_what_kubernetes_takes(manifest):
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def containers(name: str) -> list[dict]:
    [found] = [part for part in MANIFESTS if part["metadata"]["name"] == name and part["kind"] != "Service"]
    return found["spec"]["template"]["spec"]["containers"]


def test_manifests_name_each_other():
    [service] = [part for part in MANIFESTS if part["kind"] == "Service"]
    address = f"tcp://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    [worker], [asker] = containers("sgaplus-worker"), containers("sgaplus-study")
    assert address in worker["args"] and f"--scheduler={address}" in asker["args"]
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert worker["args"][worker["args"].index("--nthreads") + 1] == "1"
    assert worker["volumeMounts"] == asker["volumeMounts"], "workers see the folder of results"


def test_the_container_is_made_from_the_lock(tmp_path):
    text = (DEPLOY / "Dockerfile").read_text()
    assert "pip install --no-cache-dir -r requirements.lock" in text
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint is not here")
    done = subprocess.run([hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    # What it copies is there, and not left out.
    kept = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (DEPLOY.parent / source).exists()
            assert any(name.startswith(f"!{source.removeprefix('./')}") for name in kept), source


@pytest.fixture
def slurm():
    spec = importlib.util.spec_from_file_location("slurm", DEPLOY / "slurm.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@POSIX
@pytest.mark.parametrize("minutes", [30, 240, 2880])
def test_a_job_of_slurm_is_a_worker_with_a_gpu_that_ends_in_time(slurm, minutes):
    from dask_jobqueue.slurm import SLURMJob

    job = SLURMJob(scheduler="tcp://login:8786", name="worker", **slurm.settings(minutes, "gpu", "mine"))
    script = job.job_script()
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
    directives = dict(re.findall(r"^#SBATCH (-\w|--[\w-]+)[ =](\S+)$", script, re.MULTILINE))
    assert directives["--gres"] == "gpu:1" and directives["-n"] == "1" and directives["-p"] == "gpu"
    hours, rest, _ = map(int, directives["-t"].split(":"))
    assert 60 * hours + rest == minutes
    lifetime, stagger = (
        int(re.search(rf"--{name} (\d+)m", script)[1]) for name in ("lifetime", "lifetime-stagger")
    )
    assert lifetime + stagger < minutes
    assert script.count("--nthreads 1") == 1 and "--nworkers" not in script


@POSIX
def test_the_script_of_a_workstation(tmp_path):
    path = DEPLOY / "workstation.sh"
    assert subprocess.run(["bash", "-n", path]).returncode == 0
    for name, content in (("nvidia-smi", "echo GPU 0; echo GPU 1"), ("sgaplus", 'echo "$@"')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{content}\n")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    command = [path, "study", "run", "rd"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["study", "run", "rd", "--workers", "2", "--log", "jobs.jsonl"]


def test_commands_in_the_files_are_ones_that_exist(capsys):
    """Every option of ``sgaplus`` that a file gives is one of that command."""
    [asker] = containers("sgaplus-study")
    with pytest.raises(SystemExit):
        cli.main([asker["args"][0], "--help"])
    shown = capsys.readouterr().out
    for option in [*asker["args"][1:], "--workers", "--log"]:
        assert option.split("=")[0] in shown
