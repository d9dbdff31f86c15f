#!/usr/bin/env bash
# Trains on a Cloud TPU VM, on one worker or many, also on one that can be preempted.
set -euo pipefail

usage() {
  cat << 'TEXT'
tpu_vm.sh [--dry_run] [--SETTING=VALUE ...] SUBCOMMAND [-- FLAG ...]

  create    makes the TPU VM
  install   copies the program to every worker and installs it
  run       mounts BUCKET and starts training on every worker; it outlives this connection;
            FLAGs are passed on
  watch     follows the log of worker 0
  resume    run, wherever things stand: after preemption deletes, creates and installs first
  delete    deletes the TPU VM; asks first

What fits tells --mode=plan --topology=v5e:4x4 beforehand, anywhere; see docs/topologies.md.
--dry_run prints every command as it would be executed, and executes nothing. A setting is a flag,
--zone=us-west4-a, or an environment variable, ZONE=us-west4-a; the flag wins:

  NAME         of the TPU VM; default unet-jax
  ZONE         required, such as us-west4-a
  ACCELERATOR  default v5litepod-16
  VERSION      of the runtime; default v2-alpha-tpuv5-lite; it must suit ACCELERATOR
  PROJECT      default: that of gcloud's configuration
  SPOT         1, the default: cheaper, can be preempted; 0: on demand
  REPO         a git URL, or a directory, which is copied; default: where this script lies
  REF          with a git URL: branch, tag or commit; default HEAD
  BUCKET       gs://NAME; mounted with gcsfuse as /mnt/bucket on every worker
  WORKDIR      directory of the run, seen by every worker: gs://NAME/PATH or a shared absolute path;
               default /mnt/bucket/runs/NAME; required where BUCKET is not given
  CONFIG       page of the run; default configs/oxford_pets.py
  PYTHON       3.11 or later; default python3.11, installed where it is missing
TEXT
}

die() { echo "error: $*" >&2; exit 2; }

# Quotes words for any POSIX shell: this one for printing, the workers' for running.
quote() {
  local word out="" single="'" escaped="'\\''"
  for word in "$@"; do
    case $word in
      '' | *[!A-Za-z0-9_./:=@%+,-]*) word="'${word//$single/$escaped}'" ;;
    esac
    out+="${out:+ }$word"
  done
  printf '%s\n' "$out"
}

DRY_RUN=0 SUBCOMMAND="" FLAGS=()
while (($#)); do
  case $1 in
    --) shift; FLAGS=("$@"); break ;;
    -h | --help) usage; exit ;;
    --dry_run) DRY_RUN=1 ;;
    --name=* | --zone=* | --accelerator=* | --version=* | --project=* | --spot=* | \
      --repo=* | --ref=* | --bucket=* | --workdir=* | --config=* | --python=*)
      key=${1%%=*}
      printf -v "$(tr '[:lower:]' '[:upper:]' <<< "${key#--}")" '%s' "${1#*=}" ;;
    create | install | run | watch | resume | delete)
      [[ -z $SUBCOMMAND ]] || die "two subcommands, $SUBCOMMAND and $1; give one (see --help)."
      SUBCOMMAND=$1 ;;
    *) die "$1 is no setting or subcommand; flags of the program go after -- (see --help)." ;;
  esac
  shift
done
[[ -n $SUBCOMMAND ]] || die "no subcommand; give create, install, run, watch, resume or delete."

NAME=${NAME:-unet-jax}
ACCELERATOR=${ACCELERATOR:-v5litepod-16}
VERSION=${VERSION:-v2-alpha-tpuv5-lite}
SPOT=${SPOT:-1}
REPO=${REPO:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}
REF=${REF:-HEAD}
CONFIG=${CONFIG:-configs/oxford_pets.py}
PYTHON=${PYTHON:-python3.11}
WORKDIR=${WORKDIR:-}
BUCKET=${BUCKET:-}
BUCKET=${BUCKET#gs://}
BUCKET=${BUCKET%/}

[[ -n ${ZONE:-} ]] || die "ZONE is not set; give a zone, such as --zone=us-west4-a."
[[ $SPOT == [01] ]] || die "SPOT=$SPOT; allowed are 1 and 0, such as --spot=1."
if [[ $WORKDIR == gs://* ]]; then
  # A bucket is used through its mount, as any other directory.
  rest=${WORKDIR#gs://}
  [[ $rest == */?* ]] || die "WORKDIR=$WORKDIR has no path, such as gs://my-bucket/runs/pets."
  [[ -z $BUCKET || $BUCKET == "${rest%%/*}" ]] || die "WORKDIR=$WORKDIR is not in BUCKET=$BUCKET."
  BUCKET=${rest%%/*}
  WORKDIR=/mnt/bucket/${rest#*/}
elif [[ -z $WORKDIR && -n $BUCKET ]]; then
  WORKDIR=/mnt/bucket/runs/$NAME
fi
if [[ $SUBCOMMAND == run || $SUBCOMMAND == resume ]]; then
  [[ -n $WORKDIR ]] || die "WORKDIR is not set; give a directory that every worker sees," \
    "such as --workdir=gs://my-bucket/runs/pets."
  # A relative path would be on each worker's own disk, which goes with the TPU VM.
  [[ $WORKDIR == /* ]] || die "WORKDIR=$WORKDIR is not absolute; give a directory that every" \
    "worker sees, such as --workdir=gs://my-bucket/runs/pets."
fi
[[ $REPO == *://* || $REPO == *@*:* || -d $REPO ]] || die "REPO=$REPO is no directory and no git" \
  "URL, such as --repo=https://example.org/unet_jax.git."
((DRY_RUN)) || command -v gcloud > /dev/null ||
  die "gcloud is not installed; install it, or print the commands with --dry_run."

execute() {
  if ((DRY_RUN)); then quote "$@"; else "$@"; fi
}
tpu() { # action, further arguments
  local action=$1
  shift
  execute gcloud compute tpus tpu-vm "$action" "$@" "--zone=$ZONE" ${PROJECT:+"--project=$PROJECT"}
}
on_workers() { tpu ssh "$NAME" "--worker=$1" "--command=$2"; }

create() {
  local spot=()
  [[ $SPOT == 0 ]] || spot=(--spot)
  tpu create "$NAME" "--accelerator-type=$ACCELERATOR" "--version=$VERSION" ${spot[@]+"${spot[@]}"}
}

install() {
  local archive steps python
  python=$(quote "$PYTHON")
  if [[ -d $REPO ]]; then
    archive=${TMPDIR:-/tmp}/unet_jax-$NAME.tar.gz
    # With .git, so that run.json names the commit.
    execute tar --exclude=./.venv --exclude=./runs --exclude=./build --exclude=__pycache__ \
      -czf "$archive" -C "$REPO" .
    tpu scp "$archive" "$NAME:unet_jax.tar.gz" --worker=all
    steps="mkdir -p unet_jax && tar -xzf unet_jax.tar.gz -C unet_jax && cd unet_jax"
  else
    steps="{ test -d unet_jax || git clone --quiet -- $(quote "$REPO") unet_jax; } && cd unet_jax"
    steps+=" && git fetch --quiet origin $(quote "$REF")"
    steps+=" && git checkout --quiet --detach FETCH_HEAD"
  fi
  steps+=" && { $python -m venv .venv || { $(from_apt "$PYTHON" "$PYTHON-venv") &&"
  steps+=" $python -m venv --clear .venv; }; }"
  steps+=" && .venv/bin/python -m pip install --quiet -e '.[tpu]' -c constraints.txt"
  on_workers all "$steps && touch .venv/installed"
}

# The images update themselves after the start, and hold the lock for that long.
from_apt() {
  echo "sudo apt-get update && sudo apt-get -o DPkg::Lock::Timeout=600 install -y $(quote "$@")"
}

run() {
  local line steps="cd unet_jax"
  line=$(quote .venv/bin/python -m unet_jax.main --multihost "--config=$CONFIG" \
    "--workdir=$WORKDIR" ${FLAGS[@]+"${FLAGS[@]}"})
  if [[ -n $BUCKET ]]; then
    # Here and not in install: a mount goes with a reboot. No cached metadata: a worker has to see
    # at once what another one wrote.
    steps+=" && { mountpoint -q /mnt/bucket || { { command -v gcsfuse > /dev/null ||"
    steps+=" { $(from_apt gcsfuse); }; } && sudo install -d -o \"\$USER\" /mnt/bucket &&"
    steps+=" gcsfuse --implicit-dirs --rename-dir-limit=100000 --metadata-cache-ttl-secs=0"
    steps+=" $(quote "$BUCKET") /mnt/bucket; }; }"
  fi
  # The program inherits the lock and holds it for as long as it runs.
  steps+=" && exec 9> train.lock && if flock -n 9; then nohup $line >> train.log 2>&1 < /dev/null &"
  steps+=" echo \$! > train.pid; else echo 'It is running.'; fi"
  on_workers all "$steps"
}

recreate() { tpu delete "$NAME" --quiet; create; install; run; }

resume() {
  local state
  if ((DRY_RUN)); then
    tpu describe "$NAME" '--format=value(state)'
    echo "# READY: the second command only where the first one fails"
    on_workers all "test -e unet_jax/.venv/installed"; install; run
    echo "# PREEMPTED or TERMINATED; without the deletion where there is no TPU VM"
    recreate
    return
  fi
  state=$(tpu describe "$NAME" '--format=value(state)' 2>&1) || {
    [[ $state == *NOT_FOUND* ]] || { echo "$state" >&2; die "cannot tell the state of $NAME."; }
    state="not there"
  }
  state=${state##*$'\n'} # warnings of gcloud come before it
  echo "$NAME is $state."
  case $state in
    READY)
      on_workers all "test -e unet_jax/.venv/installed" || install
      run
      ;;
    PREEMPTED | TERMINATED) recreate ;;
    "not there") create; install; run ;;
    *) die "it is neither READY nor PREEMPTED; wait and try again, or delete it." ;;
  esac
}

case $SUBCOMMAND in
  watch) on_workers 0 "tail -n 100 -F unet_jax/train.log" ;;
  delete) tpu delete "$NAME" ;;
  *) "$SUBCOMMAND" ;;
esac
