"""Deaths and recoveries of experts, against an oracle that checks step by step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_sim import Event, History, RunConfig, Trainer
from moe_sim.diagnosis.deaths import DeathRecord, deaths, in_words
from moe_sim.history.columns import PER_EXPERT, SCALARS
from moe_sim.metrics import SMOOTHING_HORIZON

UNJUDGED = SMOOTHING_HORIZON - 1
"""Steps at the start that are not judged."""


class LoadsOnly(History):
    """A history in which only the smoothed loads are set."""

    def __init__(self, load: np.ndarray, config: RunConfig, events: Sequence[Event] = ()) -> None:
        super().__init__(config)
        left = len(SCALARS) + PER_EXPERT.index("smoothed_load") * config.num_experts
        rows = np.zeros((len(load), self.rows().shape[1]))
        rows[:, left : left + config.num_experts] = load
        self.extend(rows)
        np.testing.assert_array_equal(self.layer().column("smoothed_load"), load)
        self.events = tuple(events)


def history_of(dead: Sequence[Sequence[bool]] | np.ndarray, events: Sequence[Event] = ()) -> History:
    """A history whose experts are dead where (steps, experts) `dead` is true, after 19 steps that are not judged."""
    table = np.asarray(dead, dtype=bool)
    load = np.where(table, 0.01, 1.0) / table.shape[1]
    first = np.zeros((UNJUDGED, table.shape[1]))
    return LoadsOnly(np.concatenate([first, load]), RunConfig(num_experts=table.shape[1]), events)


def summary(*experts: str, events: Sequence[Event] = ()) -> tuple[DeathRecord, str]:
    """The deaths and their summary, for experts given as strings from step 20 on: `x` dead, `.` alive."""
    history = history_of(np.array([[letter == "x" for letter in expert] for expert in experts]).T, events)
    result = deaths(history.layer(), 0.1)
    return result, in_words(history.layer(), result)


def expected(load: np.ndarray, dead_share: float) -> DeathRecord:
    """The definitions in plain loops."""
    steps, num_experts = load.shape

    def is_dead(step: int, expert: int) -> bool:
        return step >= SMOOTHING_HORIZON and load[step - 1, expert] < dead_share / num_experts

    every = range(1, steps + 1)
    counts = {step: sum(is_dead(step, expert) for expert in range(num_experts)) for step in every}
    spells: list[tuple[tuple[int, int], ...]] = []
    for expert in range(num_experts):
        first, own = 0, []
        for step in every:
            if is_dead(step, expert) and not (step > 1 and is_dead(step - 1, expert)):
                first = step
            if is_dead(step, expert) and not (step < steps and is_dead(step + 1, expert)):
                own.append((first, step))
        spells.append(tuple(own))
    dying = [step for step in every if counts[step]]
    now = tuple(expert for expert in range(num_experts) if steps and is_dead(steps, expert))

    def has_come_back(expert: int) -> bool:
        died = [step for step in every if is_dead(step, expert)]
        return any(not is_dead(step, expert) for step in range(died[0], steps + 1))

    return DeathRecord(
        steps=steps,
        spells=tuple(spells),
        first_death=min(dying, default=None),
        most_dead=max(counts.values(), default=0),
        recovered_at=next((step for step in every if dying and step > dying[0] and not any(
            counts[later] for later in range(step, steps + 1))), None),
        dead_now=now,
        never_back=tuple(expert for expert in now if not has_come_back(expert)),
    )  # fmt: skip


@given(
    seed=st.integers(0, 10_000), steps=st.integers(0, 60), num_experts=st.integers(2, 9),
    dead_share=st.floats(0.0, 0.5), switching=st.floats(0.0, 0.6),
)  # fmt: skip
def test_the_record_equals_a_check_of_every_step(
    seed: int, steps: int, num_experts: int, dead_share: float, switching: float
) -> None:
    random = np.random.default_rng(seed)
    low = random.random(num_experts) < 0.5
    load = np.empty((steps, num_experts))
    for row in load:
        low ^= random.random(num_experts) < switching
        row[:] = np.where(low, random.random(num_experts) * 0.5, 1.0) / num_experts
    history = LoadsOnly(load.copy(), RunConfig(num_experts=num_experts))
    assert deaths(history.layer(), dead_share) == expected(load, dead_share)
    np.testing.assert_array_equal(history.layer().column("smoothed_load"), load)
    words = in_words(history.layer(), deaths(history.layer(), dead_share))
    assert words == "" or words.endswith(".")


def test_a_share_exactly_at_the_threshold_is_alive() -> None:
    load = np.full((25, 4), 0.1 / 4)
    assert deaths(LoadsOnly(load, RunConfig(num_experts=4)).layer(), 0.1).first_death is None
    assert deaths(LoadsOnly(load - 1e-9, RunConfig(num_experts=4)).layer(), 0.1).first_death == SMOOTHING_HORIZON


def test_the_summary_is_empty_before_the_horizon_and_then_says_that_no_expert_died() -> None:
    for steps, words in ((0, ""), (UNJUDGED, ""), (SMOOTHING_HORIZON, "No expert has died.")):
        history = LoadsOnly(np.full((steps, 4), 0.25), RunConfig(num_experts=4))
        assert in_words(history.layer(), deaths(history.layer(), 0.1)) == words


@pytest.mark.parametrize(
    ("experts", "words"),
    [
        (("..", ".."), "No expert has died."),
        (("..x", "..."), "First dead expert at step 22, up to 1 of 2 at once. 1 is dead now and never came back."),
        (("xx", ".x", ".."), "First dead expert at step 20, up to 2 of 3 at once. 2 are dead now and never came back."),
        (("x.x", "..."), "First dead expert at step 20, up to 1 of 2 at once. 1 is dead now."),
        (("x.x", ".xx", "..."),
         "First dead expert at step 20, up to 2 of 3 at once. 2 are dead now; 1 of them never came back."),
        (("x..", ".xx", "..."),
         "First dead expert at step 20, up to 1 of 3 at once. 1 came back; 1 is dead now and never came back."),
        (("x....", "x.x..", "x.xxx"),
         "First dead expert at step 20, up to 3 of 3 at once. 2 came back; 1 is dead now."),
        (("x.", ".."),
         "First dead expert at step 20, up to 1 of 2 at once. All back at step 21, 1 step after the first one died."),
        (("xx.x..", "......"),
         "First dead expert at step 20, up to 1 of 2 at once. All back at step 24, 4 steps after the first one died."),
    ],
)  # fmt: skip
def test_deaths_and_recoveries_are_summarized_in_words(experts: tuple[str, ...], words: str) -> None:
    assert summary(*experts)[1] == words


def test_a_recovery_is_counted_from_the_last_change_while_experts_were_dead() -> None:
    events = [Event(5, {"aux_loss_coef": 0.01}), Event(22, {"capacity_factor": 2.0}), Event(60, {"aux_loss_coef": 0.1}),
             Event(100, {"aux_loss_coef": 0.0})]  # fmt: skip
    dead = "x" * 50 + "." * 40  # steps 20 to 69
    assert summary(dead, "." * 90, events=events)[1] == (
        "First dead expert at step 20, up to 1 of 2 at once. All back at step 70, 10 steps after α 0.01 → 0.1."
    )
    assert summary(dead, "." * 90, events=events[:2])[1].endswith(
        "All back at step 70, 48 steps after capacity off → 2."
    )
    assert summary(dead, "." * 90, events=events[:1])[1].endswith(
        "All back at step 70, 50 steps after the first one died."
    )
    late = [Event(69, {"aux_loss_coef": 0.1})]
    assert summary(dead, "." * 90, events=late)[1].endswith("All back at step 70, 1 step after α 0 → 0.1.")


def test_a_real_collapse_and_rescue_is_recorded_as_such() -> None:
    trainer = Trainer(RunConfig())
    trainer.run(150)
    before = deaths(trainer.history.layer(), 0.1)
    assert before.first_death is not None
    assert before.first_death < 100
    assert before.recovered_at is None
    assert len(before.never_back) >= 3
    trainer.update(aux_loss_coef=0.1)
    trainer.run(150)
    after = deaths(trainer.history.layer(), 0.1)
    assert after.first_death == before.first_death
    assert after.most_dead >= before.most_dead
    assert after.recovered_at is not None
    assert 150 < after.recovered_at < 300
    assert after.dead_now == after.never_back == ()
    words = in_words(trainer.history.layer(), after)
    assert f"All back at step {after.recovered_at}, {after.recovered_at - 150} steps after α 0 → 0.1." in words
    assert after == expected(trainer.history.layer().column("smoothed_load"), 0.1)
