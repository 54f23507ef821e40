#!/usr/bin/env bash
# What the sbatch files share; they source it. A job runs the code of COMMONSPACE_HOME: the snapshot that
# `commonspace launch` took, or else the checkout it was submitted from. Data, runs and models are those of the folder
# it was submitted from.
cd "${SLURM_SUBMIT_DIR:-.}" || exit 2
home="${COMMONSPACE_HOME:-$PWD}"
python="${COMMONSPACE_PYTHON:-.venv/bin/python}"
job="${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID:-}}"
job="${job:-${SLURM_JOB_ID:-}}"
most_restarts="${COMMONSPACE_RESTARTS:-100}" # a job whose time limit is shorter than its start would go round for ever

export PYTHONPATH="$home/src:$home${PYTHONPATH:+:$PYTHONPATH}"
export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"
# W&B's process of the session that submitted this: a run that is requeued would find its own first attempt there.
unset WANDB_SERVICE
# srun no longer takes this from sbatch by itself (Slurm 22.05 and later).
export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"
# Where the processes of one run meet: the first node. A port of the job's own, so that two jobs share a node in peace.
export MASTER_ADDR="${MASTER_ADDR:-$(scontrol show hostnames "${SLURM_JOB_NODELIST:-localhost}" | head -n 1)}"
export MASTER_PORT="${MASTER_PORT:-$((20000 + ${SLURM_JOB_ID:-0} % 20000))}"

# commonspace WORDS in every process of the job; the end of one with an error ends the others. SIGUSR1, ahead of the time
# limit, lets a training save and put the job back into the queue itself; whatever else it ends (a run that is still
# starting or is writing its model, another command) is put back here.
run_command() {
  local status=0
  # -J: a step named like the interactive shell would make the trainer ignore SLURM.
  srun --kill-on-bad-exit=1 -J step "$python" -m commonspace.cli "$@" || status=$?
  if ((status == 138 && ${SLURM_RESTART_COUNT:-0} < most_restarts)); then scontrol requeue "$job" || true; fi
  return "$status"
}
