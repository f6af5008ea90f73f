#!/usr/bin/env bash
# A SLURM cluster of this machine alone, to run real job arrays in tests. Needs root, and the packages slurm-wlm and
# munge of Debian or Ubuntu, which it installs. Not for use by others: everything runs as root on the loopback.
set -euo pipefail
node=$(hostname -s)
if ! command -v slurmctld >/dev/null || ! command -v munged >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq slurm-wlm munge >/dev/null
fi
grep -qw "$node" /etc/hosts || echo "127.0.0.1 $node" >>/etc/hosts
mkdir -p /etc/slurm /var/lib/slurm-test/{controller,node} /run/munge

if ! pgrep -x munged >/dev/null; then
    [ -s /etc/munge/munge.key ] || (umask 077 && head -c 1024 /dev/urandom >/etc/munge/munge.key)
    chown -R munge: /etc/munge /run/munge /var/lib/munge /var/log/munge
    runuser -u munge -- munged
fi

# A configuration that is there belongs to a cluster that is there.
if [ ! -e /etc/slurm/slurm.conf ]; then
    memory=$(awk '/^MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
    cat >/etc/slurm/slurm.conf <<CONF
ClusterName=test
SlurmctldHost=$node(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
# A job that is put back into the queue waits as long as its old credential is valid, by default two minutes.
AuthInfo=cred_expire=5
# It would also wait for the next of the scheduler's rounds, every 30 seconds.
SchedulerParameters=bf_interval=1,sched_interval=1
StateSaveLocation=/var/lib/slurm-test/controller
SlurmdSpoolDir=/var/lib/slurm-test/node
SlurmctldLogFile=/var/log/slurmctld.log
SlurmdLogFile=/var/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
NodeName=$node NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$memory
# Jobs in the partition "urgent" displace those in "test", which have half a minute to end.
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1 GraceTime=30
PartitionName=urgent Nodes=ALL MaxTime=INFINITE PriorityTier=2
CONF
fi
pgrep -x slurmctld >/dev/null || slurmctld
pgrep -x slurmd >/dev/null || slurmd
for _ in $(seq 60); do
    sinfo -h -o %T 2>/dev/null | grep -q -e idle -e mixed -e allocated && exec sinfo
    sleep 0.5
done
echo "the node did not come up: see /var/log/slurmctld.log and /var/log/slurmd.log" >&2
exit 1
