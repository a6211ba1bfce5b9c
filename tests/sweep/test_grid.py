"""The runs of a sweep, and how values and ranges are written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_sim import KNOBS, RunConfig
from moe_sim.config.codec import format_value
from moe_sim.config.errors import InvalidInput
from moe_sim.sweep.grid import Cell, Grid, parse_values

DEFAULT = RunConfig()


def grid(seeds: int = 1, steps: int = 600, **axes: tuple[object, ...]) -> Grid:
    return Grid(DEFAULT, axes, seeds, steps)


def test_every_combination_has_every_seed_once() -> None:
    cells = grid(3, aux_loss_coef=(0.0, 0.01), num_experts=(8, 16, 32)).cells()
    runs = [(c.config.aux_loss_coef, c.config.num_experts, c.config.seed, c.steps) for c in cells]
    assert sorted(runs) == [(a, e, s, 600) for a in (0.0, 0.01) for e in (8, 16, 32) for s in (0, 1, 2)]


def test_seeds_count_up_from_the_base() -> None:
    cells = Grid(DEFAULT.replace(seed=40), {}, 3, 10).cells()
    assert [cell.config.seed for cell in cells] == [40, 41, 42]


def test_the_seed_can_be_an_axis_of_its_own() -> None:
    assert [cell.config.seed for cell in grid(seed=(7, 3)).cells()] == [7, 3]
    with pytest.raises(InvalidInput, match="not both"):
        grid(2, seed=(7, 3))


def test_invalid_combinations_are_skipped_and_counted_by_reason() -> None:
    wide = grid(5, num_experts=(2, 4), top_k=(1, 2, 4))
    assert len(wide.cells()) == 5 * 5
    [(reason, count)] = wide.left_out().items()
    assert count == 5
    assert "top_k" in reason
    assert "num_experts" in reason


def test_a_switch_that_does_not_fit_is_skipped_too() -> None:
    both = grid(renormalize=(False, True), top_k=(1, 2))
    assert [(c.config.renormalize, c.config.top_k) for c in both.cells()] == [(False, 1), (False, 2), (True, 2)]
    assert list(both.left_out().values()) == [1]


def test_a_value_given_twice_is_one_run() -> None:
    assert len(grid(2, num_experts=(8, 8)).cells()) == 2


def test_more_runs_than_the_limit_are_rejected_before_they_are_created() -> None:
    with pytest.raises(InvalidInput, match="at most 100,000"):
        grid(1, aux_loss_coef=tuple(i / 1000 for i in range(1000)), bias_rate=tuple(i / 1000 for i in range(101)))


@pytest.mark.parametrize(("seeds", "steps"), [(0, 1), (1, 0)])
def test_a_sweep_without_seeds_or_steps_is_rejected(seeds: int, steps: int) -> None:
    with pytest.raises(InvalidInput, match="at least one"):
        grid(seeds, steps)


def test_seeds_beyond_the_largest_are_rejected() -> None:
    with pytest.raises(InvalidInput, match="last seed"):
        Grid(DEFAULT.replace(seed=2**31 - 1), {}, 2, 1)


def test_the_key_differs_whenever_the_result_may_differ() -> None:
    others = [Cell(DEFAULT.replace(**{name: value}), 600) for name, value in (("seed", 1), ("aux_loss_coef", 0.01))]
    keys = [cell.key for cell in (Cell(DEFAULT, 600), Cell(DEFAULT, 601), *others)]
    assert len(set(keys)) == 4
    assert Cell(RunConfig(aux_loss_coef=1), 600).key == Cell(RunConfig(aux_loss_coef=1.0), 600).key
    assert len({cell.run for cell in grid(200).cells()}) == 200


@pytest.mark.parametrize("name", KNOBS)
def test_every_allowed_value_of_a_knob_can_be_listed(name: str) -> None:
    knob = KNOBS[name]
    ends = () if knob.minimum is None else (knob.kind(knob.minimum), knob.kind(knob.maximum))
    switch = (True, False) if knob.kind is bool else ()
    values = (*ends, *knob.choices, *knob.stops, *switch, knob.default)
    text = ",".join(format_value(value) for value in values)
    assert parse_values(name, text) == tuple(dict.fromkeys(values))


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        ("num_experts", "2..6", (2, 3, 4, 5, 6)),
        ("num_experts", "8..64:4:log", (8, 16, 32, 64)),
        ("num_experts", "2..4:10", (2, 3, 4)),
        ("top_k", "1, 2", (1, 2)),
        ("top_k", "1..2,2..3,8", (1, 2, 3, 8)),
        ("aux_loss_coef", "0,0.01,0.1", (0.0, 0.01, 0.1)),
        ("aux_loss_coef", "0..1:5", (0.0, 0.25, 0.5, 0.75, 1.0)),
        ("aux_loss_coef", "0..1:4", (0.0, 0.333, 0.667, 1.0)),
        ("aux_loss_coef", "0.001..1:4:log", (0.001, 0.01, 0.1, 1.0)),
        ("aux_loss_coef", "0.01..0.02:3:log", (0.01, 0.0141, 0.02)),
        ("aux_loss_coef", "0,0.001..0.1:3:log", (0.0, 0.001, 0.01, 0.1)),
        ("capacity_factor", "off,1..2:3", (None, 1.0, 1.5, 2.0)),
        ("balancing", "bias,none", ("bias", "none")),
        ("frozen", "on,off", (True, False)),
        ("learning_rate", "1e-3", (0.001,)),
    ],
)
def test_values_and_ranges_are_parsed(name: str, text: str, values: tuple[object, ...]) -> None:
    read = parse_values(name, text)
    assert read == values
    assert [type(value) for value in read] == [type(value) for value in values]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("num_experts", "8,65", "(num_experts) must be a whole number from 2 to 64, not '65'"),
        ("num_experts", "2..100", "from 2 to 64, not '100'"),
        ("num_experts", "", "(num_experts) must be"),
        ("num_experts", "8,,9", "(num_experts) must be"),
        ("num_experts", "9..8", "(num_experts) has a range '9..8' that does not go from a lower to a higher"),
        ("aux_loss_coef", "nan", "from 0 to 10, not 'nan'"),
        ("aux_loss_coef", "0..1", "(aux_loss_coef) needs a number of values in its range, as in 0..1:5"),
        ("aux_loss_coef", "0..1:", "needs 2 to 1000 values in its range, not ''"),
        ("aux_loss_coef", "0..1:1", "needs 2 to 1000 values"),
        ("aux_loss_coef", "0..1:1001", "needs 2 to 1000 values"),
        ("aux_loss_coef", "0..1:٣", "needs 2 to 1000 values"),
        ("aux_loss_coef", "0..1:3:log", "must start above 0, not at 0"),
        ("aux_loss_coef", "0..1:3:lin", "LOW..HIGH:COUNT:log"),
        ("aux_loss_coef", "0..1:3:log:log", "LOW..HIGH:COUNT:log"),
        ("capacity_factor", "off..2:3", "does not go from a lower to a higher number"),
        ("balancing", "bias..none", "must be one of"),
        ("frozen", "maybe", "must be on or off"),
        ("seed", "0..2147483647", "more than 100,000 values"),
        ("nothing", "1", "no knob named 'nothing'"),
    ],
)
def test_invalid_text_gets_a_sentence_with_the_knob_and_what_is_allowed(name: str, text: str, words: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        parse_values(name, text)
    assert words in str(refusal.value)


@given(st.sampled_from(sorted(KNOBS)), st.text("0123456789.,:-+eloginfa ", max_size=20))
def test_any_text_is_parsed_or_rejected(name: str, text: str) -> None:
    try:
        values = parse_values(name, text)
    except InvalidInput:
        return
    assert values
    assert parse_values(name, ",".join(format_value(value) for value in values)) == values


@given(st.floats(1e-4, 1), st.floats(1, 10), st.integers(2, 20))
def test_a_geometric_range_has_constant_ratios_up_to_rounding(low: float, high: float, count: int) -> None:
    values = parse_values("aux_loss_coef", f"{low}..{high}:{count}:log")
    for i, value in enumerate(values if len(values) == count else ()):
        assert value == pytest.approx(low * (high / low) ** (i / (count - 1)), rel=5.1e-3)
