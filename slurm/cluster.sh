#!/usr/bin/env bash
# slurm/cluster.sh up FOLDER [NODES]    a real SLURM cluster on this one machine, no systemd, no cgroups; needs root
# slurm/cluster.sh down FOLDER          stops it
#
# Prints the settings a shell needs. Node names resolve nowhere, so jobs of several processes meet at MASTER_ADDR.
set -euo pipefail
action="${1:?up or down}" folder="$(mkdir -p "$2" && cd "$2" && pwd)" nodes="${3:-2}"
export SLURM_CONF="$folder/slurm.conf"

write_settings() {
  local host
  host="$(hostname)"
  cat >"$SLURM_CONF" <<SETTINGS
ClusterName=commonspace
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=${SLURM_FIRST_PORT:-17817}
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
SlurmdParameters=config_overrides
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$folder/finished.txt
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=5
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
JobRequeue=1
KillWait=2
MailProg=/bin/true
NodeName=n[1-$nodes] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$((${SLURM_FIRST_PORT:-17817} + 1))-$((${SLURM_FIRST_PORT:-17817} + nodes))] CPUs=4 RealMemory=8000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
SETTINGS
}

up() {
  local node
  for program in slurmctld slurmd munged munge; do
    command -v "$program" >/dev/null || { echo "$program is missing: apt-get install slurm-wlm munge" >&2; exit 3; }
  done
  mkdir -p "$folder/state"
  for node in $(seq "$nodes"); do mkdir -p "$folder/n$node"; done
  # A munge of its own: two clusters on one machine do not take it from each other. --force: its folder is no system one.
  head -c 128 /dev/urandom >"$folder/munge.key"
  chmod 600 "$folder/munge.key"
  munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
    --log-file="$folder/munged.log" --seed-file="$folder/munged.seed" 2>/dev/null
  write_settings
  slurmctld -f "$SLURM_CONF"
  for node in $(seq "$nodes"); do slurmd -f "$SLURM_CONF" -N "n$node"; done
  for _ in $(seq 100); do
    [[ "$(sinfo -h -N -t idle -o %N 2>/dev/null | wc -l)" == "$nodes" ]] && break
    sleep 0.2
  done
  [[ "$(sinfo -h -N -t idle -o %N | wc -l)" == "$nodes" ]] || { sinfo >&2; tail -n 20 "$folder/slurmctld.log" >&2; exit 4; }
  echo "export SLURM_CONF=$SLURM_CONF MASTER_ADDR=127.0.0.1"
}

down() {
  local file
  if [[ -f "$folder/slurmctld.pid" ]]; then
    timeout 10 scancel --quiet --user "$(id -un)" 2>/dev/null || true
    for _ in $(seq 40); do # a job that outlives its node's daemon leaves its srun waiting for ever
      [[ -z "$(timeout 10 squeue -h 2>/dev/null || true)" ]] && break
      sleep 0.2
    done
  fi
  for file in "$folder"/n*.pid "$folder"/slurmctld.pid "$folder"/munged.pid; do
    [[ -f "$file" ]] && kill "$(cat "$file")" 2>/dev/null || true
  done
  for _ in $(seq 25); do
    [[ -z "$(left_behind)" ]] && return
    sleep 0.2
  done
  # shellcheck disable=SC2046
  kill -9 $(left_behind) 2>/dev/null || true
}

# Daemons of this cluster and whatever its jobs started, by number.
left_behind() {
  local place
  for place in $(grep -lzxF "SLURM_CONF=$SLURM_CONF" /proc/[0-9]*/environ 2>/dev/null); do
    place="${place%/environ}"
    if grep -qxE 'slurmctld|slurmd|slurmstepd|srun|munged' "$place/comm" 2>/dev/null ||
      grep -qz '^SLURM_JOB_ID=' "$place/environ" 2>/dev/null; then
      echo "${place#/proc/}"
    fi
  done
}

case "$action" in
  up) up ;;
  down) down ;;
  *) echo "up or down, not $action" >&2; exit 2 ;;
esac
