#!/bin/sh
# Measures a GPU: correctness, products, attention, whole steps, rollouts, most telling first, a JSON file of each.
#   sh bench/measure.sh DIRECTORY [NAME…]             in a checkout
#   sh lexalign/bench/measure.sh DIRECTORY [NAME…]    in an unpacked bundle
# Each command has a time limit of its own, 19 min in all; one that fails is named, and the others go on. NAMEs choose
# some of them: where time is short, two calls, "doctor product attention sft tune" (8 min 30 s at most) and the others.
# MODEL and PRODUCT choose smaller ones for a try.
root=$(dirname "$(dirname "$(readlink -f "$0")")")
out=${1:?give a directory for the results}
shift
names=" $* "
mkdir -p "$out"
model=${MODEL:-llama-3.1-8b}
product=${PRODUCT:-4096x4096x14336}
peer=$(python3 -c 'import torch; print("--peer torch" if torch.cuda.is_available() else "")' 2>/dev/null)

# run NAME SECONDS ARGUMENT…
run() {
  name=$1
  limit=$2
  shift 2
  case "$names" in "  " | *" $name "*) ;; *) return ;; esac
  echo "== $name: lexalign $*"
  set -- "$@" --json "$out/$name.json"
  if [ -x "$root/lexalign" ]; then set -- "$root/lexalign" "$@"; else set -- npx lexalign "$@"; fi
  timeout -s INT -k 10 "$limit" "$@" || echo "FAILED: $name ended with $?"
}

run doctor 90 doctor
run product 60 bench kernels --shapes "$product" $peer
run attention 90 bench kernels --only attention --rows 4096 --model "$model" $peer
run sft 150 bench sft --model "$model" --sequences 8 --length 512 --profile
run tune 120 bench kernels --tune --only matmul --model "$model" --rows 4096,256
run tune-attention 90 bench kernels --tune --only attention --model "$model" --rows 4096
run product-tuned 60 bench kernels --shapes "$product" $peer
run attention-tuned 60 bench kernels --only attention --rows 4096 --model "$model"
run sft-tuned 150 bench sft --model "$model" --sequences 8 --length 512 --profile
run rollout 120 bench rollout --model "$model" --batches 16,128 --length 256 --new-tokens 256 --quantize nf4
run ppo 150 bench rollout --model "$model" --batches 64 --length 200 --shared-prompt-length 150 --new-tokens 256 --quantize nf4 --ppo --steps 2
