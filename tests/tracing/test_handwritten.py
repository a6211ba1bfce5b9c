"""MoE modules as people write them themselves are found and counted to the integer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import moe_sim
from moe_sim.config.errors import InvalidInput
from moe_sim.tracing.watching import NothingToWatchError

WIDTH, EXPERTS = 12, 6


class Loop(nn.Module):
    """A loop over the experts with torch.where: nothing but rows ever reaches a module."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(WIDTH, EXPERTS)
        self.experts = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(EXPERTS))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        weights, chosen = torch.topk(self.gate(flat).softmax(-1), 2)
        out = torch.zeros_like(flat)
        for index, expert in enumerate(self.experts):
            token, slot = torch.where(chosen == index)
            out = out.index_add(0, token, expert(flat[token]) * weights[token, slot, None])
        return out.view_as(x)

    def choices(self, x: Tensor) -> np.ndarray:
        logits = self.gate(x.reshape(-1, WIDTH)).numpy(force=True)
        return np.argsort(-logits, axis=1, kind="stable")[:, :2]


class Einsum(nn.Module):
    """Dispatch by one-hot and einsum to stacked weights, with argmax."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(WIDTH, EXPERTS, bias=False)
        self.weights = nn.Parameter(torch.randn(EXPERTS, WIDTH, WIDTH) / WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        probabilities = self.router(x).softmax(-1)
        chosen = probabilities.argmax(-1)
        dispatch = functional.one_hot(chosen, EXPERTS).to(x.dtype)
        return torch.einsum("bte,btd,edh,bte->bth", dispatch, x, self.weights, probabilities)

    def choices(self, x: Tensor) -> np.ndarray:
        return self.router(x.reshape(-1, WIDTH)).numpy(force=True).argmax(1)[:, None]


class Chooser(nn.Module):
    """A router that returns indices only, and finds them by sorting."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(EXPERTS, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.weight.T).sort(-1, descending=True).indices[:, :3]


class IndicesOnly(nn.Module):
    """Experts that are chosen by the indices of another module."""

    def __init__(self) -> None:
        super().__init__()
        self.chooser = Chooser()
        self.experts = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(EXPERTS))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, WIDTH)
        chosen = self.chooser(flat)
        outputs = torch.stack([expert(flat) for expert in self.experts], 1)
        return outputs.gather(1, chosen[..., None].expand(-1, -1, WIDTH)).mean(1).view_as(x)

    def choices(self, x: Tensor) -> np.ndarray:
        logits = (x.reshape(-1, WIDTH) @ self.chooser.weight.T).numpy(force=True)
        return np.argsort(-logits, axis=1, kind="stable")[:, :3]


class Rows(nn.Module):
    """Nothing but the experts' rows tells who goes where: the choice is made without topk."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(EXPERTS))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, WIDTH)
        chosen, out = self._chosen(flat), torch.zeros_like(flat)
        for index, expert in enumerate(self.experts):
            token = torch.where(chosen == index)[0]
            if len(token):
                out = out.index_copy(0, token, expert(flat[token]))
        return out.view_as(x)

    @staticmethod
    def _chosen(flat: Tensor) -> Tensor:
        return (flat[:, 0] * 5).abs().long() % EXPERTS

    def choices(self, x: Tensor) -> np.ndarray:
        return self._chosen(x.reshape(-1, WIDTH)).numpy(force=True)[:, None]


class Mask(nn.Module):
    """A router that returns probabilities and a map of booleans, as Megatron-LM's does."""

    def __init__(self) -> None:
        super().__init__()
        self.router = Mapper()
        self.experts = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(EXPERTS))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, WIDTH)
        probabilities, mapped = self.router(flat)
        outputs = torch.stack([expert(flat) for expert in self.experts], 1)
        return (outputs * (probabilities * mapped)[..., None]).sum(1).view_as(x)

    def choices(self, x: Tensor) -> np.ndarray:
        logits = self.router.linear(x.reshape(-1, WIDTH)).numpy(force=True)
        return np.argsort(-logits, axis=1, kind="stable")[:, :2]


class Mapper(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, EXPERTS)

    def forward(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        probabilities = self.linear(flat).softmax(-1)
        least = probabilities.sort(-1).values[:, -2:-1]
        return probabilities, probabilities >= least


class Model(nn.Module):
    """Two layers of a kind, between others that do not route."""

    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, WIDTH)
        self.layers = nn.ModuleList([kind(), kind()])
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        for layer in self.layers:
            hidden = hidden + layer(hidden)
        return self.head(hidden)

    def choices(self, x: Tensor) -> list[np.ndarray]:
        """(T, K) of each layer, computed beside the model."""
        hidden, found = self.first(x), []
        for layer in self.layers:
            found.append(layer.choices(hidden))
            hidden = hidden + layer(hidden)
        return found


@pytest.mark.parametrize("kind", [Loop, Einsum, IndicesOnly, Rows, Mask])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_module_of_ones_own_is_counted_to_the_integer(kind: type[nn.Module], seed: int, tmp_path: Path) -> None:
    torch.manual_seed(seed)
    model, expected = Model(kind), []
    batches = [torch.randn(4, 9, WIDTH) for _ in range(4)]
    for x in batches:
        expected.append([np.bincount(one.ravel(), minlength=EXPERTS) for one in model.choices(x)])
    with moe_sim.watch(model, tmp_path) as trace:
        for x in batches:
            model(x).sum().backward()
            trace.step()
        assert [layer.name for layer in trace.layers] == ["layers.0", "layers.1"]
    history = moe_sim.open_trace(tmp_path)
    np.testing.assert_array_equal(history._tables["load"][:4].reshape(4, 2, EXPERTS), expected)


def test_the_layer_itself_may_be_the_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    with moe_sim.watch(layer := Loop(), tmp_path) as trace:
        layer(torch.randn(20, WIDTH))
        trace.step()
        assert [one.name for one in trace.layers] == ["Loop"]
    assert moe_sim.open_trace(tmp_path)._tables["tokens"][0].tolist() == [20]


def test_an_error_in_a_forward_pass_ends_nothing(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Model(Loop)
    with moe_sim.watch(model, tmp_path) as trace:
        for _ in range(2):  # while layers are looked for, and afterwards
            with pytest.raises(RuntimeError):
                model(torch.randn(4, WIDTH + 1))
            model(torch.randn(4, WIDTH))
            trace.step()
    assert moe_sim.open_trace(tmp_path)._tables["tokens"][:2].tolist() == [[4, 4], [4, 4]]


def watch_one_step(model: nn.Module, path: Path, *, runs: bool = True, steps: bool = True) -> None:
    with moe_sim.watch(model, path) as trace:
        if runs:
            model(torch.randint(20, (4, 5)))
        if steps:
            trace.step()


def test_a_model_without_routing_gets_a_sentence_that_says_what_was_looked_for(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Embedding(20, WIDTH), nn.Linear(WIDTH, 20))
    with pytest.raises(NothingToWatchError, match=r"No layer of Sequential .* looked for: .*topk"):
        watch_one_step(model, tmp_path)
    with pytest.raises(NothingToWatchError, match="has not run yet"):
        watch_one_step(model, tmp_path, runs=False)
    with pytest.raises(NothingToWatchError, match="No layer"):
        watch_one_step(model, tmp_path, steps=False)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"every": 0}, "every must be"),
        ({"every": True}, "every must be"),
        ({"groups": "domain"}, "belong together"),
        ({"group_names": ["a"]}, "belong together"),
    ],
)
def test_senseless_arguments_get_a_sentence(arguments: dict[str, object], words: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=words):
        moe_sim.watch(Model(Loop), tmp_path, **arguments)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="needs a torch module, not str"):
        moe_sim.watch("model", tmp_path)  # type: ignore[arg-type]
