#!/bin/sh
# Slurm, as far as runboard uses it; its jobs are processes of this host. It is called by the names of Slurm's commands, and as
# `release`, which begins the jobs that wait since $FAKE_SLURM/held was there.
me=${0##*/}
here=$FAKE_SLURM
echo "$me $*" >>"$here/calls"
if [ -e "$here/down" ] && [ "$me" != release ]; then
    echo "$me: error: Unable to contact slurm controller" >&2
    exit 1
fi

begin() {
    (
        job=$here/jobs/$1
        exec >>"$(cat "$job/log")" 2>&1 </dev/null
        export SLURM_JOB_ID="$1" SLURM_CLUSTER_NAME=fake
        while [ "$(cat "$job/state")" = PENDING ]; do
            SLURM_RESTART_COUNT=$(cat "$job/restarts")
            export SLURM_RESTART_COUNT
            echo RUNNING >"$job/state"
            setsid sh -c 'echo $$ >"$0/pid.new"; mv "$0/pid.new" "$0/pid"; exec sh "$0/script"' "$job"
            code=$?
            echo "$code" >"$job/code"
            if [ "$(cat "$job/state")" = RUNNING ]; then
                if [ "$code" = 0 ]; then echo COMPLETED; else echo FAILED; fi >"$job/state"
            fi
        done
    ) &
}

case $me$* in
sbatch--version)
    echo "slurm 0"
    exit 0
    ;;
esac
case $me in
sbatch)
    for script; do
        case $script in
        --job-name=*) name=${script#*=} ;;
        --output=*) log=${script#*=} ;;
        --partition=none) echo "sbatch: error: invalid partition specified: none" >&2 && exit 1 ;;
        esac
    done
    id=1
    if [ -e "$here/most" ] && [ -e "$here/jobs/1" ]; then
        : >"$here/refused"
        echo "sbatch: error: too many jobs" >&2
        exit 1
    fi
    until mkdir "$here/jobs/$id" 2>/dev/null; do id=$((id + 1)); done
    job=$here/jobs/$id
    echo "$name" >"$job/name"
    echo "${log:-$job/output}" >"$job/log"
    echo 0 >"$job/restarts"
    cp "$script" "$job/script"
    echo PENDING >"$job/state"
    [ -e "$here/held" ] || begin "$id"
    echo "$id"
    ;;
release)
    rm "$here/held"
    for job in "$here"/jobs/*; do begin "${job##*/}"; done
    ;;
squeue)
    for job in "$here"/jobs/*; do
        [ -e "$job/state" ] && echo "${job##*/}|$(cat "$job/state")|Resources|$(cat "$job/name")"
    done
    ;;
scancel)
    for id; do :; done
    job=$here/jobs/$id
    case $* in
    *--signal=HUP*) kill -HUP "$(cat "$job/pid")" ;;
    *--signal=KILL*) kill -KILL -"$(cat "$job/pid")" ;;
    *)
        before=$(cat "$job/state")
        echo CANCELLED >"$job/state"
        [ "$before" != RUNNING ] || kill -TERM "$(cat "$job/pid")"
        ;;
    esac
    ;;
scontrol)
    for id; do :; done
    job=$here/jobs/$id
    case $1 in
    requeue)
        echo $(($(cat "$job/restarts") + 1)) >"$job/restarts"
        echo PENDING >"$job/state"
        ;;
    show) echo "JobId=$id JobState=$(cat "$job/state") ExitCode=$(cat "$job/code"):0" ;;
    esac
    ;;
esac
