#!/usr/bin/env bash
# Starts this machine's processes of a job as torchrun does, and ends them together:
#
#   cmake/spawn.sh PROCESSES NODES NODE_RANK MASTER_ADDR MASTER_PORT COMMAND...
#
# The exit code is that of the first process that failed (1 where it was killed). The others then have a moment to say
# what they know, are asked to stop (SIGTERM), and are killed if they do not. SIGINT and SIGTERM are passed on to all,
# SIGHUP and SIGUSR1 as SIGTERM.
set -euo pipefail

readonly processes=$1 nodes=$2 node_rank=$3 master_addr=$4 master_port=$5
shift 5
readonly moment=5 patience=20  # seconds: before SIGTERM, and from there to SIGKILL
declare -A running=()          # process id -> rank
first_failure=0 ask_at=0 kill_at=0 clock=

start() {
  local rank local_rank
  for ((local_rank = 0; local_rank < processes; ++local_rank)); do
    rank=$((node_rank * processes + local_rank))
    # In a session of its own, so that Ctrl-C reaches it once: through us.
    RANK=$rank LOCAL_RANK=$local_rank WORLD_SIZE=$((nodes * processes)) LOCAL_WORLD_SIZE=$processes \
      MASTER_ADDR=$master_addr MASTER_PORT=$master_port TORCHELASTIC_USE_AGENT_STORE='' \
      setsid "$@" </dev/null 2>&3 3>&- &
    running[$!]=$rank
  done
}

tell_all() {
  local id
  for id in "${!running[@]}"; do kill -s "$1" "$id" || true; done
}

# `wait` sleeps until a process ends or a signal comes: from here on one comes every second.
start_clock() {
  [[ -z $clock ]] || return 0
  (while sleep 1; do kill -s ALRM $$; done) >/dev/null 3>&- &
  clock=$!
}

# asked_to_stop SIGNAL EXIT_CODE
asked_to_stop() {
  ((first_failure != 0)) || first_failure=$2
  tell_all "$1"
  kill_at=$((SECONDS + patience))
  start_clock
}

# ended ID EXIT_CODE
ended() {
  local -r rank=${running[$1]:-}
  local code=$2
  [[ -n $rank ]] || return 0
  unset "running[$1]"
  ((code != 0)) || return 0
  if ((code > 128 && code != 130 && code != 143)); then
    echo "error: rank $rank (process $1) was killed by signal $((code - 128))" >&3
    code=1
  elif ((code == 126 || code == 127)); then
    echo "error: rank $rank could not be started" >&3
    code=1
  fi
  ((first_failure == 0)) || return 0
  first_failure=$code
  ask_at=$((SECONDS + moment))
  start_clock
}

look_at_clock() {
  if ((ask_at > 0 && kill_at == 0 && SECONDS >= ask_at)); then
    tell_all TERM
    kill_at=$((SECONDS + patience))
  elif ((kill_at > 0 && SECONDS >= kill_at)); then
    tell_all KILL
  fi
}

exec 3>&2 2>/dev/null  # bash's own notes about killed children are not for the user
trap 'asked_to_stop INT 130' INT
trap 'asked_to_stop TERM 143' TERM HUP USR1
trap look_at_clock ALRM
trap '[[ -z $clock ]] || kill "$clock"' EXIT
start "$@"
while ((${#running[@]} > 0)); do
  id='' code=0
  wait -n -p id "${!running[@]}" || code=$?
  if [[ -n ${id-} ]]; then ended "$id" "$code"; fi
done
exit "$first_failure"
