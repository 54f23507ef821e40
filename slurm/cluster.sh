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
KillWait=10
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
  mkdir -p "$folder/state" /run/munge
  for node in $(seq "$nodes"); do mkdir -p "$folder/n$node"; done
  chown munge:munge /run/munge
  chmod 755 /run/munge
  if ! munge -n 2>/dev/null | unmunge >/dev/null 2>&1; then
    su -s /bin/sh munge -c /usr/sbin/munged
    touch "$folder/own-munge" # this script started it, so this script stops it
  fi
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
  [[ -f "$SLURM_CONF" ]] && scancel --quiet --user "$(id -un)" 2>/dev/null || true
  for file in "$folder"/n*.pid "$folder"/slurmctld.pid; do
    [[ -f "$file" ]] && kill "$(cat "$file")" 2>/dev/null || true
  done
  if [[ -f "$folder/own-munge" ]]; then kill "$(cat /run/munge/munged.pid)" 2>/dev/null || true; fi
}

case "$action" in
  up) up ;;
  down) down ;;
  *) echo "up or down, not $action" >&2; exit 2 ;;
esac
