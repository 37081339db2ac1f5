"""The parts of a batch script that are the same for all jobs, in bash."""

FUNCTIONS = r"""count=${1:-0}
task=${SLURM_ARRAY_TASK_ID:-}
name=$key${task:+.$task}
own=${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}
began=$(date +%s)
restarts=$((count + ${SLURM_RESTART_COUNT:-0}))
ended=
trap 'ended=1' TERM

note() {  # what happened, exit code or null, number of the job that goes on
  printf '{"state": "%s", "code": %s, "job": "%s", "next": "%s", "began": %s, "ended": %s, "host": "%s", "restarts": %s}\n' \
    "$1" "$2" "$own" "${3:-}" "$began" "$(date +%s)" "$(hostname)" "$restarts" >"$here/$name.new" &&
    mv -f -- "$here/$name.new" "$here/$name.json"
}

require() {  # exit code, what was tried, and how that went
  [ "$1" -eq 0 ] && return
  [ -z "$ended" ] || go_on  # it was told to end meanwhile
  printf 'error: the environment cannot be set up: %s %s\n' "$2" "${3:-ended with $1}"
  note failed 5
  exit 5
}

move_dependants() {  # jobs that wait for this one wait for job $1 too
  local job waits done=0 tries=0
  until mkdir -- "$here/moving" 2>/dev/null; do  # tasks of an array do this one after the other
    tries=$((tries + 1))
    [ $tries -gt 100 ] && break
    sleep 0.3
  done
  while IFS='|' read -r job waits; do
    case "$waits" in
      *:"$own"[!0-9]* | *:"$own")
        waits=$(printf '%s' "$waits" | sed 's/([^)]*)//g; s/_\*//g')
        scontrol update JobId="$job" Dependency="$waits,afterok:$1" || done=1 ;;
    esac
  done < <(squeue --noheader --states=PENDING --user="$(id -u)" --format='%A|%E')
  rmdir -- "$here/moving" 2>/dev/null
  return $done
}

go_on() {  # after exit code 75: the rest of the work, in this job or in another one
  local new
  if [ -e "$here/cancelled" ]; then
    note stopped 75; exit 75
  fi
  if [ "$restarts" -ge "$limit" ]; then
    printf 'stopped: this job was continued %s times, which is the limit (hpc.continuations); submit again to go on\n' "$restarts"
    note limit 75; exit 75
  fi
  if [ -n "$ended" ] && ! scontrol show job "$SLURM_JOB_ID" | grep -q 'Reason=TimeLimit'; then
    note stopped 75; exit 75  # somebody ended the job, or SLURM sends it back to the queue by itself
  fi
  if [ "$requeue" -eq 1 ] && [ -z "$ended" ]; then
    note requeued 75
    if scontrol requeue "$SLURM_JOB_ID"; then
      sleep 300  # until SLURM ends this script: an exit code of its own, heard later, would count as a failure
      exit 75
    fi
  fi
  new=$(for name in ${!SLURM_*}; do [ "$name" = SLURM_CONF ] || unset "$name"; done
    sbatch --parsable ${task:+--array="$task"} "$here/$key.sh" $((restarts + 1)))
  new=${new%%;*}
  if [ -z "$new" ]; then
    printf 'stopped: the rest of the work could not be submitted; submit again to go on\n'
    note stopped 75; exit 75
  fi
  printf 'the rest of the work goes on in job %s\n' "$new"
  note continued 75 "$new"
  move_dependants "$new" || exit 75
  exit 0
}

note running null"""
"""Before the command: notes of how the job stands, and how it goes on after exit code 75. Needs key, here, requeue and limit."""

LAST_WORDS = r"""last_words() {  # of several processes: the message of the one that failed, else what SLURM says of the one that died
  local file task how said found=
  sleep 0.5  # until all is in the logs
  for file in "$log".rank*.log; do
    said=$(own_error "$file")
    case $said in "" | "error: another process"* | "error: stopped by"*) ;; *) printf '%s\n' "$said"; found=1 ;; esac
  done
  [ -z "$found" ] || return
  while read -r task how; do
    case $how in *" 75") continue ;; esac
    said=$(own_error "$log.rank$task.log")
    case $said in "error: another process"*) continue ;; esac
    printf 'error: process %s has ended (SLURM: %s); it said last: %s\n' "$task" "$how" "$(tail -n 1 -- "$log.rank$task.log")"
    return
  done < <(sed -n 's/^srun: error: .*tasks\{0,1\} \([0-9][0-9]*\)[^:]*: \(.*\)/\1 \2/p' "$log.srun")
}

own_error() {  # the last one in a file, with the lines that belong to it
  tail -n 25 -- "$1" | awk '/^error: / { text = ""; on = 1 } on { text = text $0 "\n" } END { printf "%s", text }'
}
"""
"""Where a process dies without a word, nobody but srun knows; it has written so in LOG.srun."""

END = r"""case $code in
  0) note done 0 ;;
  75 | 138) go_on ;;  # 138: the warning came before the stage could listen
  *) note failed "$code" ;;
esac
exit "$code"
"""
"""After it."""
