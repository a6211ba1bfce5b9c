"""The quiz: well-formed questions whose right answers an independent computation confirms."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch

from moe_sim import RunConfig, Trainer, losses
from moe_sim.diagnosis.remedies import RESCUE_ALPHA
from moe_sim.router.capacity import expert_capacity
from moe_sim.teaching.level import LEVELS
from moe_sim.teaching.quiz.catalogue import QUESTIONS, by_key
from moe_sim.teaching.quiz.question import ATTEMPTS, Drawn, Option, Question, Sheet, draw
from moe_sim.teaching.quiz.runs import RUN_SEEDS, STEPS, WEAK, rescued_run, run
from moe_sim.teaching.quiz.score import Score
from moe_sim.teaching.quiz.wording import sheet_of
from moe_sim.teaching.terms.catalogue import by_name

SEEDS = range(5)
DRAWN = [question for question in QUESTIONS if question.is_drawn]
FIXED = [question for question in QUESTIONS if not question.is_drawn]
each_question = pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.key)
each_fixed = pytest.mark.parametrize("question", FIXED, ids=lambda question: question.key)
each_seed = pytest.mark.parametrize("seed", SEEDS)


def numbers(text: str) -> list[float]:
    """All numbers in a text, including ∞."""
    found = re.findall(r"∞|[+−]?\d+(?:\.\d+)?", text)
    return [math.inf if item == "∞" else float(item.replace("−", "-")) for item in found]


def value(option: Option) -> float:
    return numbers(option.text)[0]


def near(expected: float, tolerance: float) -> Callable[[Option], bool]:
    return lambda option: value(option) == expected or abs(value(option) - expected) <= tolerance


def between(text: str, before: str, after: str) -> list[float]:
    """The numbers between two markers in a text."""
    return numbers(text.split(before, 1)[1].split(after, 1)[0])


# One check per drawn question. It finds the right option from the displayed text and plots, with its own arithmetic.


def collapsed(drawn: Drawn) -> Callable[[Option], bool]:
    def check(option: Option) -> bool:
        num_experts, top_k = (int(number) for number in numbers(option.text)[:2])
        load = np.array(option.plot.values) / 100 / top_k
        far = 1 / num_experts + 3 / 7 * (1 / top_k - 1 / num_experts)
        too_much = load.max() > min(2 / num_experts, far) and load.max() * top_k > 0.5
        return bool(too_much or sum(load < 0.1 / num_experts) >= num_experts / 2)

    return check


def dead(drawn: Drawn) -> Callable[[Option], bool]:
    load = between(drawn.text, "experts are", "How many")
    return near(sum(share < 100 * 0.1 / len(load) for share in load), 0)


def step_time(drawn: Drawn) -> Callable[[Option], bool]:
    shares = between(drawn.text, "computes", "of the token")
    return near(len(shares) * max(shares) / 100, 0.0051)


def inference(drawn: Drawn) -> Callable[[Option], bool]:
    """Trains the run again and counts the router's favourites among 400 other held-out tokens, hence the margin."""
    for seed in range(drawn.seed, drawn.seed + 4):
        trainer = Trainer(RunConfig(seed=seed, balancing="sinkhorn"))
        load = trainer.run(STEPS).layer().last("smoothed_load")
        if f"takes {100 * load.max():.0f}\u00a0%" in drawn.text:
            with torch.no_grad():
                favourite = trainer.network.layers[0].router(trainer.held_out.batch.inputs).argmax(1)
            return near(100 * np.bincount(favourite).max() / len(favourite), 8)
    raise AssertionError("no seed gives this run")


def raised(drawn: Drawn) -> Callable[[Option], bool]:
    busiest = np.array(drawn.plots[0].values)
    last = int(np.flatnonzero(busiest > 50)[-1]) + 1
    return lambda option: 0 < last - value(option) < 40


def which_alpha(drawn: Drawn) -> Callable[[Option], bool]:
    asked = numbers(drawn.text)[-1]
    alphas = sorted(between(drawn.text, "α =", "These"))
    largest = sorted((max(option.plot.values) for option in drawn.options), reverse=True)
    return lambda option: max(option.plot.values) == largest[alphas.index(asked)]


def what_next(drawn: Drawn) -> Callable[[Option], bool]:
    [plot] = drawn.plots
    alpha = numbers(drawn.text)[0]
    if max(plot.values) > 50:
        return lambda option: option.text.startswith("Raise")
    return lambda option: option.text.startswith("Lower" if alpha >= 1 else "Leave")


def silent(drawn: Drawn) -> Callable[[Option], bool]:
    first, second = (np.array(plot.values[-20:]) for plot in drawn.plots)
    undecided = abs(first.mean() - second.mean()) < min(first.std(), second.std())
    assert undecided
    return lambda option: "do not tell" in option.text


def alpha_adds(drawn: Drawn) -> Callable[[Option], bool]:
    alpha, task, balance = numbers(drawn.text)
    return near(100 * alpha * balance / task, 0.0051)


def capacity(drawn: Drawn) -> Callable[[Option], bool]:
    text = re.findall(r"\d+(?:\.\d+)?", drawn.text)
    tokens, num_experts, top_k, factor = (Fraction(item) for item in text)
    return near(math.ceil(factor * tokens * top_k / num_experts), 0)


def imbalance(drawn: Drawn) -> Callable[[Option], bool]:
    load = between(drawn.text, "got", "of the")
    return near(max(load) / min(load) if min(load) else math.inf, 0.0051)


def weight(drawn: Drawn) -> Callable[[Option], bool]:
    first, second, *_ = between(drawn.text, "probabilities", "With")
    return near(first / (first + second), 0.0051)


def devices(drawn: Drawn) -> Callable[[Option], bool]:
    return near(100 / (1 + numbers(drawn.text)[0]), 0.51)


def convention(drawn: Drawn) -> Callable[[Option], bool]:
    tokens, everyone, firsts = 10, between(drawn.text, "got", "choices"), between(drawn.text, "in all,", "of them")
    importance = between(drawn.text, "P is", "What")
    name = drawn.text.rstrip("?").split()[-1]
    counts, pairs = {
        "per_choice": (everyone, 2 * tokens),
        "first_choice": (firsts, tokens),
        "huggingface": (everyone, tokens),
    }[name]
    return near(4 * sum(count / pairs * share for count, share in zip(counts, importance, strict=True)), 0.00051)


def dropped(drawn: Drawn) -> Callable[[Option], bool]:
    wanted = between(drawn.text, "get", "With")
    factor = between(drawn.text, "factor of", "each")[0]
    room = math.ceil(Fraction(str(factor)) * 200 / len(wanted))
    return near(sum(max(0, count - room) for count in wanted) / 2, 0.051)


def who(drawn: Drawn) -> Callable[[Option], bool]:
    weights = between(drawn.text, "weights", "in the order")
    by_weight = sorted(range(6), key=lambda token: -weights[token])
    left_out = by_weight[4:] if "by probability" in drawn.text else [4, 5]
    return lambda option: numbers(option.text) == sorted(token + 1 for token in left_out)


def bias(drawn: Drawn) -> Callable[[Option], bool]:
    rate, load = numbers(drawn.text)[0], between(drawn.text, "sends", "of the")
    expected = [rate if share < sum(load) / 4 else -rate for share in load]
    return lambda option: numbers(option.text) == pytest.approx(expected)


CHECKS: dict[str, Callable[[Drawn], Callable[[Option], bool]]] = {
    "which-is-collapsed": collapsed, "how-many-are-dead": dead, "how-long-is-a-step": step_time,
    "what-does-inference-bring": inference, "when-was-alpha-raised": raised, "which-alpha": which_alpha,
    "what-next": what_next, "does-the-task-loss-tell": silent, "how-much-does-alpha-add": alpha_adds,
    "what-is-the-capacity": capacity, "what-is-the-imbalance-ratio": imbalance, "what-is-the-weight": weight,
    "how-busy-are-the-devices": devices, "loss-in-a-convention": convention, "how-many-are-dropped": dropped,
    "who-is-dropped": who, "where-does-the-bias-go": bias,
}  # fmt: skip


def test_there_are_enough_questions_of_both_kinds_for_every_level() -> None:
    assert len(QUESTIONS) >= 24
    assert len(DRAWN) >= 8
    for level in LEVELS:
        assert sum(question.level == level for question in QUESTIONS) >= 8
        assert any(question.level == level for question in DRAWN)
    assert len({question.key for question in QUESTIONS}) == len(QUESTIONS)
    assert all(by_key(question.key) is question for question in QUESTIONS)


def test_every_drawn_question_is_checked() -> None:
    assert set(CHECKS) == {question.key for question in DRAWN}


@each_question
def test_a_question_is_about_terms_of_the_glossary(question: Question) -> None:
    assert question.topics
    assert all(by_name(topic) for topic in question.topics)


@each_seed
@each_question
def test_a_drawn_question_is_complete(question: Question, seed: int) -> None:
    drawn = draw(question, seed)
    assert 3 <= len(drawn.options) <= 4
    assert len({option.text for option in drawn.options}) == len(drawn.options)
    assert 0 <= drawn.right < len(drawn.options)
    assert drawn.text.rstrip().endswith("?")
    right = drawn.options[drawn.right]
    for option in drawn.options:
        assert option.explanation.endswith(".")
        assert option is right or option.explanation != right.explanation
        assert option.plot is None or np.isfinite(option.plot.values).all()
    shown = "\n".join([drawn.text, *(f"{option.text}\n{option.explanation}" for option in drawn.options)])
    assert "!" not in shown
    assert not re.search(r"\d %|\d%|  |\bnan\b", shown)


@each_seed
@pytest.mark.parametrize("question", DRAWN, ids=lambda question: question.key)
def test_exactly_one_option_is_right_by_an_independent_computation(question: Question, seed: int) -> None:
    drawn = draw(question, seed)
    is_right = CHECKS[question.key](drawn)
    assert [is_right(option) for option in drawn.options] == [i == drawn.right for i in range(len(drawn.options))]


@pytest.mark.parametrize("key", ["why-collapse", "what-is-the-capacity", "which-is-collapsed"])
def test_the_same_seed_draws_the_same_question(key: str) -> None:
    assert draw(by_key(key), 3) == draw(by_key(key), 3)


@each_question
def test_the_right_option_is_not_always_in_the_same_place(question: Question) -> None:
    assert len({draw(question, seed).right for seed in (SEEDS if question.is_drawn else range(20))}) > 1


@pytest.mark.parametrize("key", ["what-is-the-capacity", "loss-in-a-convention", "who-is-dropped", "which-alpha"])
def test_another_seed_gives_other_numbers(key: str) -> None:
    assert len({(drawn.text, frozenset(drawn.options)) for drawn in (draw(by_key(key), seed) for seed in SEEDS)}) == 5


def test_if_a_seed_does_not_suit_the_question_the_next_one_is_tried() -> None:
    tried = []

    def compose(rng, seed: int) -> Sheet | None:
        tried.append(seed)
        return Sheet("Well?", Option("yes", "."), (Option("no", "."),)) if seed >= 12 else None

    assert draw(Question("patient", "beginner", (), compose), 10).text == "Well?"
    assert tried == [10, 11, 12]


def test_a_question_that_no_seed_suits_raises_after_all_attempts() -> None:
    tried = []
    with pytest.raises(LookupError, match="hopeless"):
        draw(Question("hopeless", "beginner", (), lambda rng, seed: tried.append(seed)), 0)
    assert len(tried) == ATTEMPTS


def test_a_sheet_skips_wrong_options_that_repeat_another_one() -> None:
    sheet = sheet_of("?", ("1", "."), [("1", "a"), ("2", "b"), ("2", "c"), ("3", "d"), ("4", "e"), ("5", "f")])
    assert [option.text for option in sheet.wrong] == ["2", "3", "4"]
    assert sheet_of("?", ("1", "."), [("1", "a"), ("2", "b")]) is None


def test_a_run_equals_a_trainers_and_is_cached() -> None:
    history = Trainer(RunConfig(seed=1, aux_loss_coef=0.003)).run(STEPS)
    some = run(1, WEAK)
    assert some.load == tuple(history.layer().last("smoothed_load"))
    assert some.task_loss == tuple(history.column("task_loss"))
    assert run(1 + RUN_SEEDS, WEAK) is some


def test_a_rescued_run_is_lopsided_before_and_even_after() -> None:
    some = rescued_run(1, 50)
    assert some.config.aux_loss_coef == RESCUE_ALPHA
    assert max(some.busiest[:50]) > 0.5 > max(some.busiest[-50:])


def test_a_score_counts_by_level_and_is_immutable() -> None:
    empty = Score()
    score = empty.add("beginner", True).add("beginner", False).add("expert", True)
    assert (empty.right, empty.wrong) == (0, 0)
    assert (score.right, score.wrong) == (2, 1)
    assert (score.at("beginner").right, score.at("beginner").wrong) == (1, 1)
    assert (score.at("practitioner").right, score.at("practitioner").wrong) == (0, 0)


# Claims of the fixed questions, recomputed.


def balance(probs: np.ndarray, chosen: np.ndarray, convention: losses.Convention = "per_choice") -> float:
    return losses.load_balancing_loss(
        router_probs=torch.tensor(probs), expert_index=torch.tensor(chosen), convention=convention
    ).item()


def right_answer(key: str) -> str:
    return by_key(key).sheet.right.text


def test_the_answer_below_one_is_what_the_loss_gives() -> None:
    # 2 · (0.6 · 0.31 + 0.4 · 0.69) = 2 · 0.462 = 0.924
    probs, chosen = np.tile([0.31, 0.69], (5, 1)), np.array([[0], [0], [0], [1], [1]])
    assert balance(probs, chosen) == pytest.approx(float(right_answer("below-one")))
    options = {option.text for option in by_key("below-one").sheet.wrong}
    assert {f"{2 * (0.6**2 + 0.4**2):.2f}", f"{0.6 * 0.31 + 0.4 * 0.69:.3f}"} <= options


def test_the_loss_near_one_comes_with_nearly_all_tokens_on_one_expert() -> None:
    logits = np.zeros((1000, 8))
    logits[:998, 0] = logits[998:, 1] = 0.0046
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    chosen = probs.argmax(1)[:, None]
    assert balance(probs, chosen) == pytest.approx(1.004, abs=1e-4)
    assert f"{100 * (chosen == 0).mean():.1f}\u00a0%" in right_answer("near-one")


def test_nearly_uniform_probabilities_send_every_token_to_one_expert() -> None:
    probs = np.tile([0.251, 0.2497, 0.2497, 0.2497], (100, 1))
    squared_cv = losses.importance_loss(router_probs=torch.tensor(probs)).item()
    assert squared_cv == pytest.approx(5e-6, rel=0.05)
    assert "5·10⁻⁶" in by_key("gaming-p").sheet.right.explanation
    assert set(probs.argmax(1)) == {0}


@pytest.mark.parametrize(
    ("convention", "text"), [("huggingface", right_answer("all-on-two")), ("per_choice", "4"), ("first_choice", "4")]
)
def test_all_tokens_on_two_experts_give_the_value_of_the_convention(convention: losses.Convention, text: str) -> None:
    probs, chosen = np.tile([0.5, 0.5, 0, 0, 0, 0, 0, 0], (10, 1)), np.tile([0, 1], (10, 1))
    assert balance(probs, chosen, convention) == pytest.approx(float(text))


@pytest.mark.parametrize(("convention", "expected"), [("per_choice", 1), ("first_choice", 1), ("huggingface", 2)])
def test_balanced_top_2_gives_one_or_k(convention: losses.Convention, expected: float) -> None:
    chosen = np.array([[token, (token + 1) % 8] for token in range(8)])
    assert balance(np.full((8, 8), 1 / 8), chosen, convention) == pytest.approx(expected)


def test_alpha_is_ported_by_the_ratio_of_the_conventions() -> None:
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(8), size=50)
    chosen = np.argsort(-probs, axis=1)[:, :2]
    ratio = balance(probs, chosen, "huggingface") / balance(probs, chosen, "per_choice")
    assert 0.01 * ratio == pytest.approx(float(right_answer("porting-alpha")))


def test_a_gap_of_fifteen_gives_the_stated_probability() -> None:
    assert 1 / (1 + math.exp(15)) == pytest.approx(3e-7, rel=0.05)
    assert "3·10⁻⁷" in by_key("alpha-is-powerless").sheet.right.explanation


def test_capacity_is_rounded_up() -> None:
    # 1.25 · 250 · 4 / 6 = 208.33
    assert expert_capacity(tokens=250, num_experts=6, top_k=4, capacity_factor=1.25) == 209


@each_fixed
def test_fixed_questions_have_one_right_and_two_or_three_wrong_answers(question: Question) -> None:
    assert isinstance(question.sheet, Sheet)
    assert len(question.sheet.wrong) in (2, 3)
    assert len({option.explanation for option in (question.sheet.right, *question.sheet.wrong)}) >= 3
