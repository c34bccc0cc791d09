"""The ledger: counts, joining and its JSON."""

from charforge.character.ledger import Count, Ledger, changed, joined, passed_over, taken


def test_counts_one_row_for_each_file_and_kind() -> None:
    ledger = Ledger((
        taken("a.jsonl", "turn", 3),
        changed("a.jsonl", "line 2", "turn", "reasoning removed"),
        passed_over("a.jsonl", "line 4", "turn", "Arr!", "Captain Mox says it", "write it as the character's"),
        taken("images", "picture"),
        taken("a.jsonl", "turn"),
    ))  # fmt: skip
    assert ledger.counts() == [Count("a.jsonl", "turn", 4, 1), Count("images", "picture", 1, 0)]
    assert [entry.text for entry in ledger.passed_over] == ["Arr!"]


def test_json_names_everything_passed_over_and_everything_changed() -> None:
    one = Ledger((passed_over("x.json", "entry 2", "sentence", "She hates him.", "it does not say who"),))
    both = joined([one, Ledger((changed("01.png", "", "picture", "turned upright"),))])
    assert both.as_json() == {
        "counts": [
            {"file": "x.json", "kind": "sentence", "taken": 0, "passed_over": 1},
            {"file": "01.png", "kind": "picture", "taken": 0, "passed_over": 0},
        ],
        "passed_over": [
            {
                "file": "x.json",
                "place": "entry 2",
                "kind": "sentence",
                "text": "She hates him.",
                "reason": "it does not say who",
            }
        ],
        "changed": [{"file": "01.png", "place": "", "kind": "picture", "text": "", "reason": "turned upright"}],
    }
    assert one + Ledger() == one
