#!/usr/bin/env bash
# One workstation with two GPUs: a worker for each. Stopped at any moment, the same command goes on.
#   deploy/workstation.sh reproduce --profile paper
set -euo pipefail
gpus=$(nvidia-smi --list-gpus | wc -l)
exec sgaplus "${@:?the command, such as: study run rd}" --workers "$gpus" --log jobs.jsonl
