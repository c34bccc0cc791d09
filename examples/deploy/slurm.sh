#!/bin/bash
# One job a character, as a Slurm array:
#
#   sbatch --array=1-"$(find CAST -mindepth 1 -maxdepth 1 -type d | wc -l)" slurm.sh CAST RUNS [options of charforge train]
#
# CAST holds the folders of the characters, RUNS gets the runs; both lie on storage that all nodes share. A job that is
# preempted, or reaches its time limit, saves, goes back into the queue, and goes on where it stopped. Add what your
# site needs (partition, account, modules), on the command line or here.
#SBATCH --job-name=charforge
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=charforge-%A-%a.log
# two minutes before the time limit: a step takes seconds, and is finished first
#SBATCH --signal=B:TERM@120

if [ $# -lt 2 ] || [ -z "$SLURM_ARRAY_TASK_ID" ]; then
  echo "usage: sbatch --array=1-N $0 CAST RUNS [options of charforge train]" >&2
  exit 2
fi
cast=$1 runs=$2
shift 2
folder=$(find "$cast" -mindepth 1 -maxdepth 1 -type d | LC_ALL=C sort | sed -n "${SLURM_ARRAY_TASK_ID}p")
if [ -z "$folder" ]; then
  echo "$cast holds fewer than $SLURM_ARRAY_TASK_ID folders: make the array as long as there are characters" >&2
  exit 1
fi

charforge train "$folder" --out "$runs/$(basename "$folder")" "$@" &
child=$!
trap 'kill -TERM "$child" 2>/dev/null' TERM
# a signal ends the first wait before the child has ended
wait "$child"
code=$?
while kill -0 "$child" 2>/dev/null; do
  wait "$child"
  code=$?
done
if [ "$code" = 130 ]; then
  # stopped and saved: the rest in another turn
  scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
fi
exit "$code"
