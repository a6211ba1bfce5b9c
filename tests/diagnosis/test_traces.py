"""The verdict on a model that was watched: each state where its definition says, about the worst layer, by its name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from moe_sim.config.thresholds import Thresholds
from moe_sim.diagnosis.load import LoadReading, highest_healthy_load
from moe_sim.diagnosis.traces import diagnose_layers, diagnose_trace, ranking
from moe_sim.diagnosis.verdict import Diagnosis
from moe_sim.history.trace import TraceHistory, open_trace
from moe_sim.history.trace_format import Routed, Setting, TracedLayer, TraceHeader, TraceRecord
from moe_sim.history.trace_writer import TraceWriter
from tests.support.traces import write_trace

EVEN = (100, 100, 100, 100)
COLLAPSED = (388, 4, 4, 4)  # 97 % and 1 %; dead is below 2.5 %
UNEVEN = (188, 172, 20, 20)  # none dead, none above 2/E, two below 0.5/E
NEARLY = (120, 120, 120, 40)  # one of four below 0.5/E
EVEN_8 = (125,) * 8
THREE_DEAD = (194,) * 5 + (10,) * 3  # 19.4 % and 1 %; dead is below 1.25 %


def verdict_on(path: Path, thresholds: Thresholds | None = None) -> Diagnosis:
    return diagnose_trace(open_trace(path), thresholds)


def plain(text: str) -> str:
    return text.replace("\u00a0", " ")


def trace(
    folder: Path, counts: Sequence[Sequence[int]], tokens: Sequence[int], records: int = 30,
    entropy: float | None = None, **settings: Setting,
) -> TraceHistory:  # fmt: skip
    """Records with these counts in each layer, and this many tokens."""
    layers = tuple(TracedLayer(f"block.{index}", len(one)) for index, one in enumerate(counts))
    measured = None if entropy is None else np.full(len(layers), entropy)
    routed = Routed(np.array(tokens), np.concatenate([np.array(one) for one in counts]), entropy=measured)
    with TraceWriter(folder, TraceHeader(layers, "Mixtral", "transformers 5.0", settings)) as writer:
        for _ in range(records):
            writer.write(TraceRecord(writer.last_step + 1, routed))
    return open_trace(folder)


def test_a_trace_without_records_is_ready(tmp_path: Path) -> None:
    history = open_trace(write_trace(tmp_path, EVEN, COLLAPSED, records=0))
    assert diagnose_trace(history) == Diagnosis("Ready", "neutral", "Nothing is recorded yet.")
    assert [one.state for one in diagnose_layers(history)] == ["Ready", "Ready"]


def test_the_verdict_begins_with_a_hundred_token_choices_per_expert_or_with_record_20(tmp_path: Path) -> None:
    few = (10, 0, 0, 0)
    assert verdict_on(write_trace(tmp_path / "few", few, records=19)).state == "Starting"
    assert "record 20" in verdict_on(tmp_path / "few").evidence
    assert verdict_on(write_trace(tmp_path / "few", few, records=1)).state == "Collapsed"
    assert verdict_on(write_trace(tmp_path / "399", (399, 0, 0, 0), records=1)).state == "Starting"
    assert verdict_on(write_trace(tmp_path / "400", (400, 0, 0, 0), records=1)).state == "Collapsed"


@pytest.mark.parametrize(
    ("counts", "state", "level", "evidence"),
    [
        (EVEN, "Balanced", "good", "Every expert is in use: shares from 25 % to 25 %."),
        (NEARLY, "Nearly balanced", "good", "Every expert is in use: shares from 10 % to 30 %."),
        (UNEVEN, "Uneven", "warning", "No expert is dead; shares from 5 % to 47 %."),
        (THREE_DEAD, "Uneven", "warning", "3 of 8 experts are dead; shares from 1 % to 19 %."),
        ((130, 132, 136, 2), "Uneven", "warning", "1 of 4 experts is dead; shares from 0 % to 34 %."),
        (COLLAPSED, "Collapsed", "bad", "Expert 0 takes 97 % of the tokens; 3 of 4 experts are dead."),
        ((0, 200, 200, 0), "Collapsed", "bad", "Expert 1 takes 50 % of the tokens; 2 of 4 experts are dead."),
    ],
)  # fmt: skip
def test_each_load_has_its_state_and_its_numbers(
    tmp_path: Path, counts: Sequence[int], state: str, level: str, evidence: str
) -> None:
    verdict = verdict_on(write_trace(tmp_path, counts))
    assert (verdict.state, verdict.level, verdict.layer) == (state, level, 0)
    assert plain(verdict.evidence) == f"block.0: {evidence[0].lower()}{evidence[1:]}"
    assert bool(verdict.advice) == (state not in ("Balanced",))
    assert plain(diagnose_layers(open_trace(tmp_path))[0].evidence) == evidence


def test_nearly_balanced_counts_the_experts_below_the_band(tmp_path: Path) -> None:
    assert verdict_on(write_trace(tmp_path, NEARLY)).advice == (
        "1 expert is below the healthy band, which begins at 0.5/E."
    )


def test_a_model_recovers_while_fewer_experts_are_dead_than_40_records_ago(tmp_path: Path) -> None:
    # n even records after 100: 0.01 + 0.115·(1 − 0.95ⁿ). Above 0.0125, dead, from n = 1; above 0.0625, idle, from 12.
    write_trace(tmp_path, THREE_DEAD, records=100)
    verdict = verdict_on(write_trace(tmp_path, EVEN_8, records=11))
    assert (verdict.state, verdict.level, verdict.advice) == ("Recovering", "recovering", "")
    verdict = verdict_on(write_trace(tmp_path, EVEN_8, records=1))
    assert verdict.state == "Balanced"
    assert "all 8 experts are back since step 101" in verdict.evidence


def test_a_model_recovers_while_its_busiest_expert_loses_a_tenth(tmp_path: Path) -> None:
    # 0.142 + 0.358·0.95ⁿ falls below 0.45 = 0.9 · 0.5 at n = 3; the last expert stays dead.
    write_trace(tmp_path, (500, *[83] * 6, 2), records=100)
    assert verdict_on(write_trace(tmp_path, (*[142] * 7, 6), records=2)).state == "Uneven"
    assert verdict_on(write_trace(tmp_path, (*[142] * 7, 6), records=1)).state == "Recovering"
    assert verdict_on(write_trace(tmp_path, (*[142] * 7, 6), records=100)).state == "Uneven"


def test_experts_are_back_since_the_step_after_the_last_one_with_a_dead_expert(tmp_path: Path) -> None:
    # 0.01 + 0.24·(1 − 0.95ⁿ) is above 0.025 from n = 2; the busiest is below one half from n = 21.
    write_trace(tmp_path, COLLAPSED, records=100)
    assert verdict_on(write_trace(tmp_path, EVEN, records=20)).state == "Collapsed"
    verdict = verdict_on(write_trace(tmp_path, EVEN, records=1))
    assert verdict.state == "Balanced"
    assert verdict.evidence.startswith("block.0: all 4 experts are back since step 102: ")


def test_experts_that_were_dead_before_the_average_had_settled_only_do_not_come_back(tmp_path: Path) -> None:
    write_trace(tmp_path, (100, 0, 0, 0), records=1)
    assert "every expert is in use" in verdict_on(write_trace(tmp_path, EVEN, records=99)).evidence


def test_recovery_and_return_use_the_threshold_of_dead_experts_that_the_verdict_uses(tmp_path: Path) -> None:
    # Three even records later, the three have 2.6 % each: alive by 0.1/E = 1.25 %, still dead by 0.3/E = 3.75 %.
    write_trace(tmp_path, THREE_DEAD, records=100)
    write_trace(tmp_path, EVEN_8, records=3)
    verdict = verdict_on(tmp_path, Thresholds(dead_share=0.3))
    assert verdict.state == "Uneven"
    assert "3 of 8 experts are dead" in verdict.evidence
    assert verdict_on(tmp_path).state == "Recovering"
    write_trace(tmp_path, EVEN_8, records=50)
    assert "are back" in verdict_on(tmp_path).evidence
    assert "are back" not in verdict_on(tmp_path, Thresholds(dead_share=0)).evidence


def test_thresholds_move_the_verdict(tmp_path: Path) -> None:
    write_trace(tmp_path, UNEVEN)
    assert verdict_on(tmp_path, Thresholds(healthy_low=0.1)).state == "Balanced"
    assert verdict_on(tmp_path, Thresholds(dead_share=0.5)).state == "Collapsed"
    assert verdict_on(tmp_path, Thresholds(collapse_share=0.4, healthy_high=1.5)).state == "Collapsed"


def test_the_worst_layer_is_named_and_layers_of_the_same_state_are_counted(tmp_path: Path) -> None:
    verdict = verdict_on(write_trace(tmp_path / "one", EVEN, COLLAPSED, UNEVEN, EVEN))
    assert (verdict.state, verdict.layer) == ("Collapsed", 1)
    assert plain(verdict.evidence) == "block.1: expert 0 takes 97 % of the tokens; 3 of 4 experts are dead."
    two = verdict_on(write_trace(tmp_path / "two", COLLAPSED, EVEN, (396, 4, 0, 0), (0, 0, 20, 380)))
    assert two.layer == 2
    assert two.evidence.endswith(" Collapsed too: 2 other layers.")
    fine = verdict_on(write_trace(tmp_path / "fine", EVEN, NEARLY, EVEN))
    assert (fine.state, fine.layer) == ("Nearly balanced", 1)
    assert fine.evidence.startswith("All 3 layers are fine. The least even: block.1: every expert is in use")


def test_layers_are_ranked_by_verdict_and_then_by_the_multiple_that_the_busiest_expert_has(tmp_path: Path) -> None:
    # Busiest · E: 1, 3.88, 1.2, 1.88, 2 · 0.98 = 1.96, 3.96, 1. Equals keep the order of the model.
    layers = [EVEN, COLLAPSED, NEARLY, UNEVEN, (392, 8), (396, 4, 0, 0), EVEN_8]
    history = open_trace(write_trace(tmp_path, *layers))
    verdicts = diagnose_layers(history)
    assert [one.state for one in verdicts] == [
        "Balanced", "Collapsed", "Nearly balanced", "Uneven", "Collapsed", "Collapsed", "Balanced",
    ]  # fmt: skip
    order = ranking(history, verdicts)
    assert order[:5] == [5, 1, 4, 3, 2]
    assert set(order[5:]) == {0, 6}


def test_layers_with_too_few_tokens_are_not_called_fine(tmp_path: Path) -> None:
    history = trace(tmp_path, [EVEN, (7,) * 64], [400, 448], records=3)
    assert [one.state for one in diagnose_layers(history)] == ["Balanced", "Starting"]
    verdict = diagnose_trace(history)
    assert verdict.level == "good"
    assert verdict.evidence.startswith("1 of 2 layers fine, too few tokens in the rest. The least even: block.0: ")


def test_a_layer_that_no_token_reached_is_unused_and_not_balanced(tmp_path: Path) -> None:
    history = trace(tmp_path, [EVEN, (0, 0, 0)], [400, 0])
    unused = diagnose_layers(history)[1]
    assert (unused.state, unused.level) == ("Unused", "neutral")
    assert unused.evidence == "No tokens reached this layer in the last 20 records."
    assert "1 of 2 layers fine" in diagnose_trace(history).evidence


def test_with_two_choices_per_token_a_share_of_the_tokens_is_twice_that_of_the_choices(tmp_path: Path) -> None:
    history = trace(tmp_path, [(200, 140, 60, 0, 0, 0, 0, 0)], [200])
    assert plain(diagnose_trace(history).evidence).startswith("block.0: expert 0 takes 100 % of the tokens; 5 of 8")


def test_a_record_without_tokens_does_not_change_how_many_choices_a_token_has(tmp_path: Path) -> None:
    # E = 8, k = 2: 0.3 of the choices are 0.6 of the tokens, a collapse; of k = 1 they would be merely uneven.
    counts = (300, *[100] * 7)
    trace(tmp_path, [counts], [500])
    assert diagnose_trace(open_trace(tmp_path)).state == "Collapsed"
    assert diagnose_trace(trace(tmp_path, [(0,) * 8], [0], records=1)).state == "Collapsed"


def test_a_share_of_the_tokens_is_at_most_one() -> None:
    load = np.array([0.9, 0.05, 0.05])
    assert LoadReading.of(load, 2, Thresholds()).token_share == 1
    assert LoadReading.of(load, 1, Thresholds()).token_share == pytest.approx(0.9)


def test_the_limit_of_a_healthy_load_lies_between_even_and_collapsed() -> None:
    assert highest_healthy_load(8, 1) == pytest.approx(0.25)
    assert highest_healthy_load(2, 1) == pytest.approx(5 / 7)
    assert highest_healthy_load(8, 1, healthy_high=4) == pytest.approx(0.5)
    assert highest_healthy_load(4, 2) == pytest.approx(1 / 4 + 3 / 7 * (1 / 2 - 1 / 4))
    assert highest_healthy_load(4, 4) == pytest.approx(1 / 4)


def test_a_router_that_sends_every_token_to_every_expert_is_balanced(tmp_path: Path) -> None:
    assert diagnose_trace(trace(tmp_path, [(70, 70, 70)], [70])).state == "Balanced"


def test_an_undecided_router_is_a_warning_beside_a_balanced_load(tmp_path: Path) -> None:
    undecided = diagnose_trace(trace(tmp_path / "a", [EVEN], [400], entropy=0.993))
    assert undecided.state == "Balanced"
    assert undecided.advice == "The router hardly tells tokens apart yet: its entropy is 0.99 out of 1."
    assert diagnose_trace(trace(tmp_path / "b", [EVEN], [400], entropy=0.95)).advice == ""
    assert diagnose_trace(trace(tmp_path / "c", [EVEN], [400], entropy=float("nan"))).advice == ""


@pytest.mark.parametrize("counts", [EVEN, NEARLY, UNEVEN, COLLAPSED])
def test_a_router_that_cannot_learn_from_the_task_is_a_warning_in_every_state(
    tmp_path: Path, counts: Sequence[int]
) -> None:
    settings = {"model_type": "mixtral", "num_experts_per_tok": 1, "router_aux_loss_coef": 0.001}
    advice = diagnose_trace(trace(tmp_path, [counts], [400], **settings)).advice
    assert "With num_experts_per_tok=1" in advice
    assert ("Raise router_aux_loss_coef, now 0.001, to 0.01 or 0.02." in advice) == (counts in (UNEVEN, COLLAPSED))
