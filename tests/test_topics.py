"""The topics task, recomputed in NumPy from the random numbers that it says it draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from moe_sim import RunConfig
from moe_sim.tasks import generators
from moe_sim.topics import Topics
from tests import oracles

WIDTH = 32


def make_topics(**knobs: object) -> Topics:
    config = RunConfig(**knobs)
    random = generators(config.seed)
    return Topics(config, random["task"], random["held_out"])


def drawn_numbers(topics: Topics, tokens: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The topics and the noise ε of a batch: drawn in this order from the batch's generator."""
    generator = torch.Generator().manual_seed(seed)
    groups = torch.multinomial(topics.frequency_G, tokens, replacement=True, generator=generator)
    return groups.numpy(), torch.randn(tokens, WIDTH, generator=generator).double().numpy()


@pytest.mark.parametrize("shared_direction", [0.0, 2.0, 4.0])
def test_the_shared_direction_has_the_length_of_its_knob_in_roots_of_the_width(shared_direction: float) -> None:
    topics = make_topics(shared_direction=shared_direction)
    assert topics.shared_D.norm().item() == pytest.approx(shared_direction * np.sqrt(WIDTH), rel=1e-6)


def test_every_centre_is_seven_tenths_of_the_root_of_the_width_long() -> None:
    lengths = make_topics(num_topics=20).centre_GD.norm(dim=1).numpy()
    np.testing.assert_allclose(lengths, 0.7 * np.sqrt(WIDTH), rtol=1e-6)


def test_centres_point_in_directions_of_their_own() -> None:
    centres = make_topics().centre_GD.numpy()
    cosines = np.corrcoef(centres)[~np.eye(12, dtype=bool)]
    # Random directions in 32 dimensions: σ = 1/√32 = 0.18; measured 0.49 for seed 0, 0.58 at most for seeds 0 to 2.
    assert np.abs(cosines).max() < 0.75


@pytest.mark.parametrize("skew", [0.0, 0.5, 1.0, 3.0])
def test_topic_frequencies_follow_the_law_of_zipf(skew: float) -> None:
    weights = np.array([rank**-skew for rank in range(1, 13)])
    np.testing.assert_allclose(make_topics(topic_skew=skew).frequency_G.numpy(), weights / weights.sum(), rtol=1e-6)


def test_topics_are_drawn_by_their_frequencies() -> None:
    topics = make_topics(topic_skew=1.0)
    groups = topics.batch(50_000, torch.Generator().manual_seed(0)).groups.numpy()
    share = np.bincount(groups, minlength=12) / len(groups)
    # σ of a share is at most √(0.32 · 0.68 / 50 000) = 0.0021.
    np.testing.assert_allclose(share, topics.frequency_G.numpy(), atol=0.009)


def test_tokens_are_the_normalized_sum_of_shared_direction_centre_and_noise() -> None:
    topics = make_topics()
    batch = topics.batch(500, torch.Generator().manual_seed(7))
    groups, noise = drawn_numbers(topics, 500, seed=7)
    expected = oracles.layer_norm(topics.shared_D.numpy() + topics.centre_GD.numpy()[groups] + 0.4 * noise)
    np.testing.assert_array_equal(batch.groups.numpy(), groups)
    np.testing.assert_allclose(batch.inputs.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_labels_are_what_the_teacher_of_the_topic_says(seed: int) -> None:
    topics = make_topics(seed=seed)
    labels = topics.batch(2000, torch.Generator().manual_seed(7)).labels.numpy()
    groups, noise = drawn_numbers(topics, 2000, seed=7)
    expected = oracles.topic_labels(noise, groups, topics.teacher_in.numpy(), topics.teacher_out.numpy())
    # The task computes in float32: a tie that is nearly exact may fall the other way. Measured: 0 of 2000.
    assert (labels != expected).sum() <= 2
    assert set(labels) <= set(range(topics.classes))


def test_teachers_have_the_stated_spread() -> None:
    topics = make_topics(num_topics=32)
    # 32 · 16 · 32 = 16 384 and 32 · 16 · 16 = 8192 draws: σ of the estimate is below 1 %.
    assert topics.teacher_in.std().item() == pytest.approx(1.5 / np.sqrt(WIDTH), rel=0.04)
    assert topics.teacher_out.std().item() == pytest.approx(4 / np.sqrt(16), rel=0.04)


def test_no_class_has_most_of_the_labels() -> None:
    labels = make_topics().batch(20_000, torch.Generator().manual_seed(0)).labels.numpy()
    # Sixteen classes, 6 % each if even; measured between 4 % and 9 % for seeds 0 to 2.
    share = np.bincount(labels, minlength=16) / len(labels)
    assert share.min() > 0.02
    assert share.max() < 0.2


def test_the_same_seed_gives_the_same_task_and_another_seed_another() -> None:
    batches = [make_topics(seed=seed).batch(50, torch.Generator().manual_seed(1)) for seed in (5, 5, 6)]
    assert torch.equal(batches[0].inputs, batches[1].inputs)
    assert torch.equal(batches[0].labels, batches[1].labels)
    assert not torch.equal(batches[0].inputs, batches[2].inputs)


def test_live_knobs_do_not_touch_the_task() -> None:
    plain = make_topics()
    moved = make_topics(aux_loss_coef=1.0, top_k=3, capacity_factor=1.0, learning_rate=0.1, router_noise="jitter")
    assert torch.equal(plain.centre_GD, moved.centre_GD)
    assert torch.equal(plain.held_out.batch.inputs, moved.held_out.batch.inputs)


def test_held_out_tokens_stand_beside_their_topic_on_the_map() -> None:
    topics = make_topics()
    held_out = topics.held_out
    positions, groups = held_out.positions, held_out.batch.groups.numpy()
    assert positions is not None
    assert positions.shape == (400, 2)
    present = np.unique(groups)
    middles = np.array([positions[groups == group].mean(0) for group in present])
    nearest = present[np.linalg.norm(positions[:, None] - middles[None], axis=2).argmin(1)]
    # Measured: 99.7 to 100 % of the tokens of seeds 0 to 2 are nearest to the middle of their own topic.
    assert (nearest == groups).mean() > 0.9
    assert np.abs(positions).max() < 1.3
