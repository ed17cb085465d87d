#!/bin/sh
# Evaluate two checkpoints and fail where the second is worse: for a pipeline.
# Usage: regression_gate.sh BASE_MODEL_ARGS OTHER_MODEL_ARGS OUT [ARGUMENTS OF lm_eval run ...]
# Example: regression_gate.sh pretrained=org/base pretrained=org/base,peft=adapter results --batch_size auto
# A run that ended well with the very same arguments is not done again. Weights that change under the same name are not
# seen: take another OUT.
set -eu
base=$1 other=$2 out=$3
shift 3
mkdir -p "$out"
for run in base other; do
    eval "model_args=\$$run"
    wanted=$(printf '%s\n' "$model_args" "$@") folder=
    for file in "$out/$run"-*/arguments; do
        if [ -f "$file" ] && [ "$(cat "$file")" = "$wanted" ]; then folder=${file%/*}; fi
    done
    if [ -z "$folder" ]; then
        folder=$out/$run-$(date +%Y%m%d-%H%M%S) # of its own: what others left is kept, and never compared
        mkdir "$folder"
        eicap run --model hf --model_args "$model_args" --tasks eicap --output_path "$folder" --log_samples "$@"
        printf '%s\n' "$wanted" >"$folder/arguments"
    fi
    eval "$run=\$folder"
done
# Status 1 where any layer fell significantly, or everything by more than two points.
eicap compare "base=$base" "other=$other" --out "$out/compare" \
    --fail-on-regression tracking --fail-on-regression cause --fail-on-regression appraisal \
    --fail-on-regression response --fail-on-regression overall:2
