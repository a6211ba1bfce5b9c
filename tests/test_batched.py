"""Rows in blocks, and runs along a leading dimension."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moe_sim.batched import Blocks, block_size, drawn, linear, number_apart, rank_within_group

SIZES = st.lists(st.integers(0, 300), min_size=1, max_size=64).filter(any)


def test_the_rank_counts_earlier_entries_of_the_same_group() -> None:
    group = np.array([2, 0, 2, 2, 0])
    assert rank_within_group(group, np.array([2, 0, 3])).tolist() == [0, 0, 1, 2, 1]


@given(group=st.lists(st.integers(0, 999), max_size=200), groups=st.sampled_from([64, 256, 257, 1000]))
def test_ranks_equal_counting(group: list[int], groups: int) -> None:
    group = [number % groups for number in group]
    counts = np.bincount(np.array(group, dtype=np.int64), minlength=groups)
    expected = [group[:place].count(number) for place, number in enumerate(group)]
    assert rank_within_group(np.array(group, dtype=np.int64), counts).tolist() == expected


@given(sizes=SIZES, size=st.integers(1, 128), seed=st.integers(0, 100))
def test_every_row_has_a_place_in_a_block_of_its_group(sizes: list[int], size: int, seed: int) -> None:
    group = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    blocks = Blocks(group, len(sizes), size)
    assert len(set(blocks.place_N.tolist())) == len(group)
    np.testing.assert_array_equal(blocks.group_B[blocks.place_N // size], group)
    # No more blocks than the rows need.
    assert len(blocks.group_B) == sum(-(-rows // size) for rows in sizes)


def test_rows_are_gathered_into_their_places_and_padding_is_what_the_block_says() -> None:
    # Groups 1, 0, 1, 1 in blocks of two: group 0 has one block, group 1 two, and two places are left.
    blocks = Blocks(np.array([1, 0, 1, 1]), 2, 2)
    assert blocks.group_B.tolist() == [0, 1, 1]
    rows = torch.tensor([10.0, 11.0, 12.0, 13.0, 99.0])
    gathered = blocks.gather(rows, np.arange(4), np.array([4, 4, 4]))
    assert gathered.tolist() == [[11, 99], [10, 12], [13, 99]]
    assert blocks.of_groups(torch.tensor([[5.0], [6.0]])).tolist() == [[5], [6], [6]]


@given(sizes=SIZES, seed=st.integers(0, 100))
def test_products_in_blocks_equal_those_row_by_row(sizes: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    group = random.permutation(np.repeat(np.arange(len(sizes)), sizes))
    rows, matrices = random.normal(size=(len(group), 3)), random.normal(size=(len(sizes), 3, 2))
    blocks = Blocks(group, len(sizes), block_size(len(group), len(sizes)))
    x = blocks.gather(torch.from_numpy(rows), np.arange(len(group)))
    products = torch.bmm(x, blocks.of_groups(torch.from_numpy(matrices))).flatten(0, 1)[blocks.place_N]
    np.testing.assert_allclose(products.numpy(), np.einsum("nd,ndc->nc", rows, matrices[group]), atol=1e-12)


@pytest.mark.parametrize(
    ("rows", "groups", "size"), [(256, 8, 32), (257, 8, 64), (512, 64, 8), (40, 64, 8), (4096, 8, 64)]
)
def test_a_block_has_room_for_an_even_share(rows: int, groups: int, size: int) -> None:
    assert block_size(rows, groups) == size


def test_a_collapsed_load_costs_little_more_than_an_even_one() -> None:
    def places(counts: list[int]) -> int:
        size = block_size(sum(counts), len(counts))
        return len(Blocks(np.repeat(np.arange(len(counts)), counts), len(counts), size).group_B) * size

    # By hand: 8 blocks of 32; 8 for the busiest expert and one for each other. To pad all to 249 would take 1992 rows.
    assert places([32] * 8) == 256
    assert places([249, 1, 1, 1, 1, 1, 1, 1]) == 480


def test_runs_are_numbered_apart() -> None:
    assert number_apart(np.array([[0, 2], [1, 0]]), 3, 1).tolist() == [[0, 2], [4, 3]]
    assert number_apart(np.array([[0, 2], [1, 0]]), 3, 2).tolist() == [[0, 2], [1, 0]]
    assert number_apart(np.zeros((2, 2, 1, 1), dtype=int), 5, 2).ravel().tolist() == [0, 5, 10, 15]


@given(runs=st.integers(1, 5), eights=st.integers(4, 12), width=st.integers(2, 64), seed=st.integers(0, 50))
def test_a_linear_map_does_not_depend_on_the_company(runs: int, eights: int, width: int, seed: int) -> None:
    # Torch multiplies a single matrix in another way than several below 400 products, and on AMD's processors if its
    # rows are no multiple of 4. The program has neither.
    tokens = 8 * eights
    random = torch.Generator().manual_seed(seed)
    shapes = ((runs, tokens, width), (runs, width, 7), (runs, 7))
    x, weight, bias = (torch.randn(shape, generator=random) for shape in shapes)
    together = linear(x, weight, bias)
    np.testing.assert_allclose(together, np.einsum("rtd,rdc->rtc", x, weight) + bias[:, None].numpy(), atol=1e-4)
    for run in range(runs):
        assert torch.equal(together[run], linear(x[run].clone(), weight[run].clone(), bias[run].clone()))


def test_each_run_draws_from_its_own_generator() -> None:
    def draw(generator: torch.Generator, factor: float) -> torch.Tensor:
        return factor * torch.rand(3, generator=generator)

    def generators() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in (1, 2)]

    factors = (1.0, 10.0)
    alone = [drawn(draw, *one) for one in zip(generators(), factors, strict=True)]
    assert torch.equal(drawn(draw, generators(), factors), torch.stack(alone))
