"""The topics task, recomputed in NumPy from the same random numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moe_sim import RunConfig, Trainer
from moe_sim.tasks.task import Batch, generators
from moe_sim.tasks.topics import Topics
from tests.support import oracles

WIDTH = 32
DEFAULT = RunConfig()


def make_topics(**knobs: object) -> Topics:
    config = RunConfig(**knobs)
    random = generators(config.seed)
    return Topics(config, random["task"], random["held_out"])


def draw(topics: Topics, tokens: int, seed: int, config: RunConfig = DEFAULT) -> Batch:
    """Draws a batch with the shares of a configuration."""
    return topics.batch(tokens, topics.shares(config), torch.Generator().manual_seed(seed))


def drawn_numbers(topics: Topics, tokens: int, seed: int, config: RunConfig = DEFAULT) -> tuple[np.ndarray, np.ndarray]:
    """The topics and the noise ε of a batch, drawn in this order from the batch's generator."""
    generator = torch.Generator().manual_seed(seed)
    groups = torch.multinomial(topics.shares(config), tokens, replacement=True, generator=generator)
    return groups.numpy(), torch.randn(tokens, WIDTH, generator=generator).double().numpy()


@pytest.mark.parametrize("shared_direction", [0.0, 2.0, 4.0])
def test_the_shared_direction_has_the_length_of_its_knob_in_units_of_root_width(shared_direction: float) -> None:
    topics = make_topics(shared_direction=shared_direction)
    assert topics.shared_D.norm().item() == pytest.approx(shared_direction * np.sqrt(WIDTH), rel=1e-6)


def test_every_centre_has_a_length_of_seven_tenths_of_root_width() -> None:
    lengths = make_topics(num_topics=20).centre_GD.norm(dim=1).numpy()
    np.testing.assert_allclose(lengths, 0.7 * np.sqrt(WIDTH), rtol=1e-6)


def test_centres_point_in_different_directions() -> None:
    centres = make_topics().centre_GD.numpy()
    cosines = np.corrcoef(centres)[~np.eye(12, dtype=bool)]
    # Random directions in 32 dimensions: σ = 1/√32 = 0.18; measured 0.49 for seed 0, 0.58 at most for seeds 0 to 2.
    assert np.abs(cosines).max() < 0.75


@pytest.mark.parametrize("skew", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("topics", [2, 12, 32])
def test_topic_frequencies_follow_zipfs_law(skew: float, topics: int) -> None:
    weights = np.array([rank**-skew for rank in range(1, topics + 1)])
    shares = make_topics(num_topics=topics).shares(RunConfig(topic_skew=skew, num_topics=topics))
    np.testing.assert_allclose(shares.numpy(), weights / weights.sum(), rtol=1e-6)


@given(topics=st.integers(2, 32), shift=st.integers(0, 31))
def test_the_shift_rotates_the_ranks_of_the_topics_and_changes_nothing_else(topics: int, shift: int) -> None:
    task = Topics(RunConfig(num_topics=topics), *(torch.Generator().manual_seed(seed) for seed in (0, 1)))
    plain, rotated = (
        task.shares(RunConfig(num_topics=topics, topic_skew=1.0, topic_shift=places)).tolist() for places in (0, shift)
    )
    # Topic 1 was the most frequent; now it is the topic `shift` places further, cyclically.
    assert [rotated[(topic + shift) % topics] for topic in range(topics)] == plain
    assert rotated.index(max(rotated)) == shift % topics


def test_a_shift_by_six_makes_topic_seven_the_most_frequent() -> None:
    topics = make_topics()
    assert topics.group_names[topics.shares(RunConfig(topic_shift=6)).argmax()] == "topic 7"


@pytest.mark.parametrize("config", [RunConfig(topic_skew=1.0), RunConfig(topic_skew=2.0, topic_shift=5)], ids=str)
def test_topics_are_drawn_by_their_shares(config: RunConfig) -> None:
    topics = make_topics()
    groups = draw(topics, 50_000, 0, config).groups.numpy()
    share = np.bincount(groups, minlength=12) / len(groups)
    # σ of a share is at most √(0.5 · 0.5 / 50 000) = 0.0022.
    np.testing.assert_allclose(share, topics.shares(config).numpy(), atol=0.009)


@pytest.mark.parametrize("config", [DEFAULT, RunConfig(topic_skew=2.0, topic_shift=5)], ids=str)
def test_tokens_are_the_normalized_sum_of_shared_direction_centre_and_noise(config: RunConfig) -> None:
    topics = make_topics()
    batch = draw(topics, 500, 7, config)
    groups, noise = drawn_numbers(topics, 500, 7, config)
    expected = oracles.layer_norm(topics.shared_D.numpy() + topics.centre_GD.numpy()[groups] + 0.4 * noise)
    np.testing.assert_array_equal(batch.groups.numpy(), groups)
    np.testing.assert_allclose(batch.inputs.numpy(), expected, atol=1e-5)
    # The noise of the tokens does not depend on the shares.
    np.testing.assert_array_equal(noise, drawn_numbers(topics, 500, 7)[1])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_labels_come_from_the_teacher_of_the_topic(seed: int) -> None:
    topics = make_topics(seed=seed)
    labels = draw(topics, 2000, 7).labels.numpy()
    groups, noise = drawn_numbers(topics, 2000, seed=7)
    expected = oracles.topic_labels(noise, groups, topics.teacher_in.numpy(), topics.teacher_out.numpy())
    # The task computes in float32, so near ties may fall the other way. Measured: 0 of 2000.
    assert (labels != expected).sum() <= 2
    assert set(labels) <= set(range(topics.classes))


def test_teacher_weights_have_the_stated_standard_deviation() -> None:
    topics = make_topics(num_topics=32)
    # 32 · 16 · 32 = 16 384 and 32 · 16 · 16 = 8192 draws: σ of the estimate is below 1 %.
    assert topics.teacher_in.std().item() == pytest.approx(1.5 / np.sqrt(WIDTH), rel=0.04)
    assert topics.teacher_out.std().item() == pytest.approx(4 / np.sqrt(16), rel=0.04)


def test_no_class_has_most_of_the_labels() -> None:
    labels = draw(make_topics(), 20_000, 0).labels.numpy()
    # Sixteen classes, 6 % each if even; measured between 4 % and 9 % for seeds 0 to 2.
    share = np.bincount(labels, minlength=16) / len(labels)
    assert share.min() > 0.02
    assert share.max() < 0.2


def test_the_same_seed_gives_the_same_task_and_another_seed_another() -> None:
    batches = [draw(make_topics(seed=seed), 50, 1) for seed in (5, 5, 6)]
    assert torch.equal(batches[0].inputs, batches[1].inputs)
    assert torch.equal(batches[0].labels, batches[1].labels)
    assert not torch.equal(batches[0].inputs, batches[2].inputs)


def test_live_knobs_do_not_affect_the_task() -> None:
    plain = make_topics()
    moved = make_topics(aux_loss_coef=1.0, top_k=3, capacity_factor=1.0, learning_rate=0.1, router_noise="jitter")
    assert torch.equal(plain.centre_GD, moved.centre_GD)
    assert torch.equal(plain.held_out.batch.inputs, moved.held_out.batch.inputs)


def test_topic_frequencies_do_not_affect_the_topics_themselves() -> None:
    plain, moved = make_topics(), make_topics(topic_skew=2.0, topic_shift=4)
    for name in ("shared_D", "centre_GD", "teacher_in", "teacher_out"):
        assert torch.equal(getattr(plain, name), getattr(moved, name)), name


def test_held_out_tokens_are_drawn_like_training_tokens() -> None:
    topics = make_topics()
    shares = topics.shares(RunConfig(topic_skew=1.0))
    one = topics.held_out_batch(50, shares, torch.Generator().manual_seed(3))
    other = topics.batch(50, shares, torch.Generator().manual_seed(3))
    assert torch.equal(one.inputs, other.inputs)
    assert torch.equal(one.labels, other.labels)


def test_held_out_tokens_are_near_their_topic_on_the_map() -> None:
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


@pytest.mark.parametrize("length", [1, 8, 32])
def test_the_tokens_of_a_sequence_have_one_topic_and_are_drawn_each_by_itself(length: int) -> None:
    trainer = Trainer(RunConfig(sequence_tokens=length))
    batch = trainer.task.batch(4096, trainer.shares, torch.Generator().manual_seed(0))
    sequences = batch.groups.view(-1, length)
    assert (sequences == sequences[:, :1]).all()
    counts = torch.bincount(sequences[:, 0], minlength=12) / len(sequences)
    # 128 to 4,096 draws: the standard deviation of a share of 0.2 is at most 0.035.
    assert (counts - trainer.shares).abs().max() < 0.12
    assert len(torch.unique(batch.inputs, dim=0)) == 4096
    assert len(trainer.evaluation_batch.labels) == 512
