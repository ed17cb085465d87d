#!/bin/sh
# Evaluate two checkpoints and fail where the second is worse: for a pipeline.
# Usage: regression_gate.sh BASE_MODEL_ARGS OTHER_MODEL_ARGS OUT [ARGUMENTS OF lm_eval run ...]
# Example: regression_gate.sh pretrained=org/base pretrained=org/base,peft=adapter results --batch_size auto
set -eu
base=$1 other=$2 out=$3
shift 3
for run in base other; do
    eval "model_args=\$$run"
    # What is there already is not run again, so that an interrupted job goes on.
    if ! ls "$out/$run"/*/results_*.json >/dev/null 2>&1; then
        eicap run --model hf --model_args "$model_args" --tasks eicap --output_path "$out/$run" --log_samples "$@"
    fi
done
# Status 1 where any layer fell significantly, or everything by more than two points.
eicap compare "base=$out/base" "other=$out/other" --out "$out/compare" \
    --fail-on-regression tracking --fail-on-regression cause --fail-on-regression appraisal \
    --fail-on-regression response --fail-on-regression overall:2
