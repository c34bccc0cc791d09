"""What a run's report says in words."""

from __future__ import annotations

from charforge.run.report import compared, facts

FIRST = {
    "held_out_perplexity_off": 63.64, "held_out_perplexity_on": 30.66, "held_out_image_loss_off": None,
    "held_out_image_loss_on": None, "train_seconds": 90.0, "best_step": 120, "peak_memory_gib": 2.04,
}  # fmt: skip
SECOND = {
    "grpo_iterations": 10, "grpo_best": 5, "grpo_ended": "all iterations",
    "scenes_copy_rate_before": 0.0, "scenes_copy_rate_after": 0.0625,
}  # fmt: skip


def test_only_what_was_measured_is_compared():
    assert compared(FIRST) == [("held-out dialogues: perplexity", "63.640", "30.660", "lower")]
    assert [row[1:] for row in compared(FIRST | SECOND)][1:] == [("0.000", "0.062", "lower")]


def test_facts_say_what_was_kept_and_why_it_ended():
    assert facts(FIRST) == ["trained in 1.5 minutes", "memory at most 2.0 GiB", "kept step 120 of the first stage"]
    assert facts(FIRST | SECOND)[-1] == "second stage: 10 iterations, kept number 5, ended: all iterations"
    assert "second stage: 1 iteration, kept" in facts(FIRST | SECOND | {"grpo_iterations": 1})[-1]
    assert "memory" not in " ".join(facts(FIRST | {"peak_memory_gib": None}))
