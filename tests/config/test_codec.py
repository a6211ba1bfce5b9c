"""Configurations, planned changes and thresholds as text: round trips, and never an exception."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_sim import KNOBS, Event, RunConfig
from moe_sim.config.codec import (
    events_from_text,
    events_to_text,
    format_value,
    from_query,
    thresholds_from_query,
    thresholds_to_query,
    to_link,
    to_query,
)
from moe_sim.config.knobs import THRESHOLDS
from moe_sim.config.thresholds import Thresholds
from moe_sim.config.versions import VERSION
from tests.support.strategies import configs, values

DEFAULTS_OF_VERSION_4 = (
    "v=4&aux_loss_coef=0&balancing=load_balancing&num_experts=8&top_k=1&capacity_factor=off&"
    "eval_capacity_factor=off&"
    "convention=per_choice&balance_scope=batch&micro_batches=4&bias_rate=0.01&bias_update=sign&z_loss_coef=0&"
    "score_function=softmax&shared_experts=0&renormalize=off&overflow=drop&"
    "drop_order=position&router_noise=none&noise_std=0.125&task=topics&seed=0&num_topics=12&"
    "topic_skew=0.5&topic_shift=0&shared_direction=2&sequence_tokens=1&domain_mix=usual&own_text=off&num_layers=1&"
    "batch_tokens=256&"
    "learning_rate=0.003&warmup_steps=200&expert_hidden_size=24&frozen=off&frozen_experts=off&"
    "frozen_router=off&frozen_head=off&router_blind=off&swap_columns=off&swap_weights=off&"
    "router_init=even&expert_init=independent&mistake=none"
)
HOSTILE = (
    "", " ", "nan", "NaN", "inf", "-inf", "1e999", "-1e999", "-1", "0x10", "9" * 5000, "x" * 10_000, "٣", "½",
    "α", "\x00", "\ud800", "🙂", "None", "null", "[]", "{}", "1,5", "1 2", "off;on", "'; drop", "<script>", "%00", "..",
)  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "off"), (False, "off"), (True, "on"), (0, "0"), (0.0, "0"), (1.0, "1"), (10.0, "10"), (0.03, "0.03"),
        (0.1, "0.1"), (1e-5, "1e-05"), (1.25, "1.25"), (64, "64"), ("topics", "topics"),
        (0.1 + 0.2, "0.30000000000000004"),
    ],
)  # fmt: skip
def test_a_value_has_one_canonical_text(value: object, text: str) -> None:
    assert format_value(value) == text


@given(config=configs())
def test_a_configuration_survives_the_address_bar(config: RunConfig) -> None:
    query = to_query(config)
    assert from_query(query) == (config, [])
    assert to_query(from_query(query)[0]) == query


@given(config=configs())
def test_a_link_holds_the_version_and_what_differs_from_its_defaults(config: RunConfig) -> None:
    link = to_link(config)
    assert from_query(link) == (config, [])
    differing = {name for name in KNOBS if getattr(config, name) != KNOBS[name].default}
    assert set(link) == {"v", *differing}


def test_a_link_to_the_defaults_is_the_version_alone() -> None:
    assert to_link(RunConfig()) == {"v": "4"}


def test_the_defaults_of_version_4_are_fixed() -> None:
    """Links of version 3 leave them out. Whoever changes one raises the version; see moe_sim/config/versions.py."""
    assert VERSION == 4
    assert "&".join(f"{name}={text}" for name, text in to_query(RunConfig()).items()) == DEFAULTS_OF_VERSION_4


@given(config=configs())
def test_the_name_of_a_run_holds_every_knob_and_the_version(config: RunConfig) -> None:
    query = to_query(config)
    assert list(query) == ["v", *KNOBS]
    assert query["v"] == "4"
    assert all(isinstance(text, str) for text in query.values())


def test_an_empty_address_is_the_default() -> None:
    assert from_query({}) == (RunConfig(), [])


def test_unknown_keys_are_ignored() -> None:
    assert from_query({"embed": "true", "v": "99", "": "", "aux_loss_coef": "0.1"}) == (
        RunConfig(aux_loss_coef=0.1),
        [],
    )


@pytest.mark.parametrize(
    ("key", "text", "limits"),
    [
        ("num_experts", "65", ["2", "64"]),
        ("aux_loss_coef", "11", ["0", "10"]),
        ("capacity_factor", "0.1", ["0.25", "4", "off"]),
        ("top_k", "two", ["1", "8"]),
        ("batch_tokens", "1e999", ["32", "2048"]),
        ("balancing", "magic", ["load_balancing", "importance"]),
        ("renormalize", "maybe", ["on", "off"]),
    ],
)
def test_an_invalid_value_falls_back_with_a_sentence_with_key_and_range(key: str, text: str, limits: list[str]) -> None:
    config, notices = from_query({key: text, "seed": "7"})
    assert config == RunConfig(seed=7)
    assert len(notices) == 1
    assert all(part in notices[0] for part in [key, text, *limits])


def test_each_invalid_value_gets_its_own_sentence_and_valid_ones_stay() -> None:
    config, notices = from_query({"num_experts": "1", "top_k": "0", "seed": "3", "task": "text"})
    assert config == RunConfig(seed=3, task="text")
    assert len(notices) == 2


def test_more_choices_than_experts_fall_back_to_the_default_top_k() -> None:
    config, notices = from_query({"num_experts": "4", "top_k": "5"})
    assert config == RunConfig(num_experts=4)
    assert len(notices) == 1


def test_one_correction_may_require_another() -> None:
    # top_k = 99 falls back to 1, and with top_k = 1 renormalize is invalid.
    config, notices = from_query({"top_k": "99", "renormalize": "on"})
    assert config == RunConfig()
    assert len(notices) == 2


@pytest.mark.parametrize("version", ["1", "2", "3", "4"])
def test_a_link_to_renormalized_expert_choice_opens_without_renormalizing_and_says_so(version: str) -> None:
    query = {"v": version, "balancing": "expert_choice", "top_k": "2", "renormalize": "on"}
    config, (notice,) = from_query(query)
    assert (config.balancing, config.top_k, config.renormalize) == ("expert_choice", 2, False)
    assert "expert choice" in notice
    assert notice.endswith("Using off.")


@pytest.mark.parametrize("key", KNOBS)
@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:12]))
def test_hostile_values_never_raise_and_never_make_long_sentences(key: str, text: str) -> None:
    config, notices = from_query({key: text})
    assert from_query(to_query(config)) == (config, [])
    assert bool(notices) == (config == RunConfig())
    assert all(len(notice) < 400 for notice in notices)


@given(query=st.dictionaries(st.sampled_from([*KNOBS, "v", "x"]), st.text(st.characters(exclude_categories=()))))
def test_any_text_gives_a_valid_configuration(query: dict[str, str]) -> None:
    config, _ = from_query(query)
    assert from_query(to_query(config)) == (config, [])


@given(
    plan=st.dictionaries(
        st.integers(0, 999_999),
        st.fixed_dictionaries(
            {"aux_loss_coef": values(KNOBS["aux_loss_coef"])},
            optional={"capacity_factor": values(KNOBS["capacity_factor"]), "balancing": values(KNOBS["balancing"])},
        ),
        max_size=8,
    )
)
def test_planned_changes_survive_the_address_bar(plan: dict[int, dict[str, object]]) -> None:
    events = tuple(Event(step, plan[step]) for step in sorted(plan))
    assert events_from_text(events_to_text(events), RunConfig()) == (events, [])


def test_events_are_written_as_step_knob_and_value() -> None:
    events = (Event(400, {"aux_loss_coef": 0.1}), Event(600, {"top_k": 2}))
    assert events_to_text(events) == "400:aux_loss_coef=0.1;600:top_k=2"


def test_events_are_sorted_and_changes_at_the_same_step_are_one_event() -> None:
    events, notices = events_from_text("600:top_k=2;400:aux_loss_coef=1;600:z_loss_coef=0.1", RunConfig())
    assert events == (Event(400, {"aux_loss_coef": 1.0}), Event(600, {"top_k": 2, "z_loss_coef": 0.1}))
    assert notices == []


def test_no_text_is_no_events() -> None:
    assert events_from_text("", RunConfig()) == ((), [])


@pytest.mark.parametrize(
    "part",
    ["400", "400:", "400:top_k", "x:top_k=2", "-1:top_k=2", "٣:top_k=2", "400:seed=1", "400:magic=1", "400:top_k=99",
     "9999999:top_k=2", "400:aux_loss_coef=nan", ":=", "4.5:top_k=2", "400:top_k=" + "9" * 5000],
    ids=lambda part: ascii(part[:20]),
)  # fmt: skip
def test_an_invalid_event_is_rejected_with_a_sentence_and_the_others_stay(part: str) -> None:
    events, notices = events_from_text(f"{part};7:aux_loss_coef=1", RunConfig())
    assert events == (Event(7, {"aux_loss_coef": 1.0}),)
    assert len(notices) == 1
    assert len(notices[0]) < 400


@given(text=st.text(st.characters(exclude_categories=()), max_size=200) | st.sampled_from(HOSTILE))
def test_any_text_gives_events_or_sentences(text: str) -> None:
    events, notices = events_from_text(text, RunConfig())
    assert events or notices or not text


def test_a_later_event_may_build_on_an_earlier_one() -> None:
    text = "100:top_k=2;200:renormalize=on;300:z_loss_coef=0.1"
    events, notices = events_from_text(text, RunConfig())
    assert (events_to_text(events), notices) == (text, [])


def test_an_event_that_an_earlier_one_makes_invalid_is_rejected() -> None:
    for first in ({"top_k": 1}, {"balancing": "expert_choice"}):
        text = events_to_text((Event(50, first), Event(100, {"renormalize": True})))
        events, notices = events_from_text(text, RunConfig(top_k=2))
        assert events == (Event(50, first),)
        assert "step 100" in notices[0]


def test_events_beyond_the_limit_of_a_link_are_ignored_with_a_notice() -> None:
    events, notices = events_from_text(";".join(f"{step}:aux_loss_coef=1" for step in range(150)), RunConfig())
    assert len(events) == 100
    assert "150 events" in notices[0]


def test_negative_zero_is_written_as_zero() -> None:
    assert format_value(RunConfig(aux_loss_coef=-0.0).aux_loss_coef) == "0"


thresholds = st.fixed_dictionaries({}, optional={name: values(line) for name, line in THRESHOLDS.items()})


@given(moved=thresholds)
def test_thresholds_survive_the_address_bar(moved: dict[str, float]) -> None:
    lines = Thresholds(**moved)
    query = thresholds_to_query(lines)
    assert thresholds_from_query(query) == (lines, [])
    assert thresholds_to_query(thresholds_from_query(query)[0]) == query


@given(moved=thresholds)
def test_only_changed_thresholds_are_in_the_address(moved: dict[str, float]) -> None:
    query = thresholds_to_query(Thresholds(**moved))
    assert set(query) == {name for name, value in moved.items() if value != THRESHOLDS[name].default}
    assert query == {name: format_value(moved[name]) for name in query}


def test_default_thresholds_are_not_in_the_address() -> None:
    assert thresholds_to_query(Thresholds()) == {}
    assert thresholds_from_query({}) == (Thresholds(), [])


def test_a_threshold_is_written_as_a_number() -> None:
    lines = Thresholds(collapse_share=0.9, large_logits=30)
    assert thresholds_to_query(lines) == {"collapse_share": "0.9", "large_logits": "30"}


@pytest.mark.parametrize("name", THRESHOLDS)
def test_an_invalid_threshold_falls_back_with_a_sentence_with_key_and_range(name: str) -> None:
    line, other = THRESHOLDS[name], "dead_share" if name != "dead_share" else "many_dropped"
    for text in ("many", "nan", "1e999", "", format_value(line.maximum + 1), "off"):
        lines, notices = thresholds_from_query({name: text, other: "0.3"})
        assert lines == Thresholds(**{other: 0.3})
        (notice,) = notices
        for part in (name, f"from {line.minimum:g} to {line.maximum:g}", f"Using {format_value(line.default)}."):
            assert part in notice


def test_configuration_and_thresholds_share_an_address_and_ignore_each_other() -> None:
    config, lines = RunConfig(seed=7, aux_loss_coef=0.1), Thresholds(dead_share=0)
    query = to_query(config) | thresholds_to_query(lines) | {"embed": "true", "dead_shares": "9"}
    assert from_query(query) == (config, [])
    assert thresholds_from_query(query) == (lines, [])


@pytest.mark.parametrize("key", THRESHOLDS)
@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:12]))
def test_hostile_thresholds_never_raise_and_never_make_long_sentences(key: str, text: str) -> None:
    lines, notices = thresholds_from_query({key: text})
    assert lines == Thresholds() or lines == Thresholds(**{key: float(text)})
    assert all(len(notice) < 400 for notice in notices)
