#!/usr/bin/env bash
# What is to be known of a machine with a card, in ten minutes: tests, then the bench in int8, nf4 and bf16.
#   OUT=results bash tests/gpu/card.sh [part ...]     parts: facts tests int8 nf4 bf16 (default: all of them, in this order)
#   OUT=results bash tests/gpu/card.sh eager          the bench in bf16 without recorded steps, to compare with that with them
#   OUT=results bash tests/gpu/card.sh compiled       the same with compiled layers, which an H200 took two minutes for
#   DRY=1 OUT=results bash tests/gpu/card.sh          the same parts on a processor: the small shape, tests without a card
# Every part has a limit of its own and writes to OUT as it goes: what was reached is there even if a later part fails.
# PYTHON names the interpreter (python3). FILES names a folder with room for 30 GB: the last bench part then loads from
# files that are written there, which takes two minutes more.
set -u
cd "$(dirname "$0")/../.."
: "${OUT:?name a folder for the results: OUT=results bash $0}"
PYTHON=${PYTHON:-python3} DRY=${DRY:-} FILES=${FILES:-}
mkdir -p "$OUT"
OUT=$(cd "$OUT" && pwd)
export PYTHONPATH=${PYTHONPATH:+$PYTHONPATH:}$PWD PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
failed=0

part() { # name, limit in seconds, command ...
  local name=$1 limit=$2 began rc
  shift 2
  # a processor takes longer over the rehearsal than a card over the real thing
  [ -z "$DRY" ] || limit=$((4 * limit))
  began=$(date +%s)
  timeout -k 5 "$limit" "$@" > "$OUT/$name.out" 2> "$OUT/$name.err"
  rc=$?
  [ "$rc" = 0 ] || failed=1
  printf '{"part": "%s", "rc": %d, "seconds": %d}\n' "$name" "$rc" "$(($(date +%s) - began))" | tee -a "$OUT/parts.jsonl"
  [ "$rc" = 0 ] || tail -n 3 "$OUT/$name.err" "$OUT/$name.out"
}

bench() { # precision, limit, further options ...
  bench_as "$1" "$@"
}

at_preset() { # precision, limit, preset: with its batches and what it does for memory
  if [ -n "$DRY" ]; then bench "$1" "$2"; else bench "$1" "$2" --preset "$3"; fi
}

bench_as() { # name, precision, limit, further options ...
  local name=$1 precision=$2 limit=$3
  shift 3
  if [ -n "$DRY" ]; then set -- --base small --quick "$@"; else set -- --base bagel "$@"; fi
  part "$name" "$limit" "$PYTHON" -m charforge.cli.main bench --precision "$precision" --profile --json \
    --out "$OUT/$name.json" "$@"
}

for wanted in ${*:-facts tests int8 nf4 bf16}; do
  case $wanted in
    facts)
      part facts 30 "$PYTHON" -m charforge.cli.main doctor --json
      if [ -z "$DRY" ]; then nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv > "$OUT/card.csv"; fi ;;
    tests)
      if [ -n "$DRY" ]; then tier="not gpu"; else tier="gpu and not slow"; fi
      part tests 120 "$PYTHON" -m pytest -q --durations 15 -p no:cacheprovider -m "$tier" -o junit_family=xunit1 --junitxml "$OUT/tests.xml" tests/gpu ;;
    int8) at_preset int8 150 bagel-24gb ;;
    nf4) at_preset nf4 150 bagel-16gb ;;
    bf16) bench bf16 110 ${FILES:+--from-file "$FILES"} ;;
    eager) bench_as eager bf16 110 --no-cuda-graphs ;;
    compiled) bench_as compiled bf16 500 --compile ;;
    *) echo "unknown part $wanted: facts, tests, int8, nf4, bf16, eager, compiled" >&2; failed=1 ;;
  esac
done
exit $failed
