"""What `watch` records beside counts, and how it behaves in a training loop."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import moe_sim
from moe_sim.config.errors import InvalidInput
from moe_sim.history.files import CannotWriteError
from moe_sim.history.trace import open_trace
from moe_sim.history.trace_writer import TraceWriter
from moe_sim.metrics import normalized_mutual_information
from moe_sim.tracing.watching import BlindSpotWarning
from tests.tracing.test_handwritten import EXPERTS, WIDTH, Loop, Model


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    return Model(Loop)


def inputs(seed: int, tokens: int = 30) -> Tensor:
    return torch.randn(tokens, WIDTH, generator=torch.Generator().manual_seed(seed))


def record(model: Model, path: Path, **arguments: Any) -> None:
    """One step of one forward pass."""
    with moe_sim.watch(model, path, **arguments) as trace:
        model(inputs(0))
        trace.step()


class Masked(Model):
    """A model whose tokens have a mask and a group."""

    def forward(self, x: Tensor, real: Tensor | None = None, domain: Tensor | None = None) -> Tensor:
        return super().forward(x)


def test_scores_entropy_and_logits_are_those_of_numpy(model: Model, tmp_path: Path) -> None:
    x = inputs(1)
    logits = model.layers[0].gate(model.first(x)).double().numpy(force=True)
    with moe_sim.watch(model, tmp_path) as trace:
        model(x[:10])
        model(x[10:])
        trace.step()
    history = open_trace(tmp_path)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(history.column("importance")[0, 0], shares.mean(0), rtol=1e-5)
    entropy = -(shares * np.log(shares)).sum(1).mean() / np.log(EXPERTS)
    assert history.by_layer("router_entropy")[0, 0] == pytest.approx(entropy, rel=1e-5)
    assert history.by_layer("router_logit_rms")[0, 0] == pytest.approx(np.sqrt((logits**2).mean()), rel=1e-5)
    assert history.by_layer("router_logit_max")[0, 0] == pytest.approx(np.abs(logits).max(), rel=1e-5)


@pytest.mark.parametrize("every", [1, 3])
def test_there_is_a_record_every_so_many_steps(every: int, model: Model, tmp_path: Path) -> None:
    with moe_sim.watch(model, tmp_path, every=every) as trace:
        for step in range(7):
            model(inputs(step, tokens=10 + step))
            trace.step(task_loss=float(step))
    history = open_trace(tmp_path)
    steps = list(range(1, 8, every))
    assert history.column("step").tolist() == steps
    assert history._tables["tokens"][: len(steps), 0].tolist() == [9 + step for step in steps]
    assert history.column("task_loss").tolist() == [
        np.mean([one - 1 for one in range(step - every + 1, step + 1) if one > 0]) for step in steps
    ]


def test_a_mask_and_groups_are_taken_by_name_position_or_function(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Masked(Loop), inputs(5)
    real, domain = torch.arange(30) % 3 != 0, torch.arange(30) % 2
    choices = model.choices(x)[1][real.numpy()]
    groups = domain[real].numpy()
    expected = np.array([np.bincount(choices[groups == group].ravel(), minlength=EXPERTS) for group in (0, 1)])
    ways = [
        (dict(token_mask="real", groups="domain"), lambda: model(x, real=real, domain=domain)),
        (dict(token_mask="real", groups="domain"), lambda: model(x, real, domain)),
        (dict(token_mask=lambda args, kwargs: real, groups=lambda args, kwargs: domain), lambda: model(x)),
    ]
    for number, (arguments, run) in enumerate(ways):
        folder = tmp_path / str(number)
        with moe_sim.watch(model, folder, group_names=["even", "odd"], **arguments) as trace:  # type: ignore[arg-type]
            for _ in range(2):  # the second time without discovery
                run()
                trace.step()
        history = open_trace(folder)
        for row in range(2):
            np.testing.assert_array_equal(history._tables["load"][row, EXPERTS:], expected.sum(0))
        np.testing.assert_allclose(history.joint(1) * 2 * expected.sum(), expected)
        specialization = float(normalized_mutual_information(expected))
        np.testing.assert_allclose(history.by_layer("specialization")[:, 1], specialization, rtol=1e-6)


def test_a_mask_that_does_not_fit_masks_nothing(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Masked(Loop)
    with moe_sim.watch(model, tmp_path, token_mask="real") as trace:
        model(inputs(0), real=torch.zeros(7))
        trace.step()
    assert open_trace(tmp_path)._tables["tokens"][0].tolist() == [30, 30]


def test_layers_are_chosen_by_pattern_and_may_be_renamed(model: Model, tmp_path: Path) -> None:
    with moe_sim.watch(model, tmp_path, layers="*.1", names={"layers.1": "upper"}) as trace:
        model(inputs(0))
        trace.step()
        assert [layer.name for layer in trace.layers] == ["upper"]
    with pytest.raises(InvalidInput, match=r"has a name like \*\.9"):
        record(model, tmp_path / "none", layers=["*.9"])


def test_a_trace_is_continued_and_a_step_that_was_taken_again_counts_anew(model: Model, tmp_path: Path) -> None:
    for _ in range(2):
        with moe_sim.watch(model, tmp_path) as trace:
            for step in range(3):
                model(inputs(step))
                trace.step(task_loss=1.0)
    assert open_trace(tmp_path).column("step").tolist() == [1, 2, 3, 4, 5, 6]
    with moe_sim.watch(model, tmp_path) as trace:  # back to a checkpoint of step 4
        model(inputs(9, tokens=7))
        trace.step(5, task_loss=2.0)
    history = open_trace(tmp_path)
    assert history.column("step").tolist() == [1, 2, 3, 4, 5]
    assert history._tables["tokens"][4].tolist() == [7, 7]
    assert history.column("task_loss").tolist() == [1, 1, 1, 1, 2]


def test_the_trace_of_another_model_is_not_continued(model: Model, tmp_path: Path) -> None:
    record(model, tmp_path)
    content = (tmp_path / "trace.jsonl").read_bytes()
    other = Model(Loop)
    other.layers.append(Loop())
    with pytest.raises(InvalidInput, match="with other layers"):
        record(other, tmp_path)
    assert (tmp_path / "trace.jsonl").read_bytes() == content


def test_two_processes_cannot_write_one_trace(model: Model, tmp_path: Path) -> None:
    with moe_sim.watch(model, tmp_path) as trace:
        model(inputs(0))
        trace.step()
        with pytest.raises(CannotWriteError, match="Another process"):
            TraceWriter(tmp_path, open_trace(tmp_path).header)


def test_numbers_that_are_known_later_join_the_record_of_their_step(model: Model, tmp_path: Path) -> None:
    with moe_sim.watch(model, tmp_path) as trace:
        for step in range(3):
            model(inputs(step))
            trace.step(task_loss=torch.tensor(2.5), learning_rate=0.1)
        trace.log(accuracy=0.5)
        trace.log(2, accuracy=torch.tensor([0.25]))
        with pytest.raises(InvalidInput, match="task_loss must be one number, not a tensor of shape"):
            trace.step(task_loss=torch.zeros(3))
        with pytest.raises(InvalidInput, match="note must be a number, not str"):
            trace.log(note="good")  # type: ignore[arg-type]
    history = open_trace(tmp_path)
    assert history.numbers == ("task_loss", "learning_rate", "accuracy")
    assert history.column("task_loss").tolist() == [2.5] * 3
    np.testing.assert_array_equal(history.column("accuracy"), [np.nan, 0.25, 0.5])


def test_a_number_that_is_not_finite_is_recorded_as_missing(model: Model, tmp_path: Path) -> None:
    with moe_sim.watch(model, tmp_path) as trace:
        model(inputs(0))
        trace.step(task_loss=float("inf"))
    assert np.isnan(open_trace(tmp_path).column("task_loss")).all()


def test_a_model_that_only_runs_has_the_load_of_its_runs(model: Model, tmp_path: Path) -> None:
    model.eval()
    with moe_sim.watch(model, tmp_path) as trace:
        for step in range(2):
            model(inputs(step))
            trace.step()
    history = open_trace(tmp_path)
    assert len(history) == 2
    assert history._tables["tokens"][0].tolist() == [30, 30]
    assert not history.has("eval_load")


def test_every_hook_is_taken_away_and_numbers_of_the_model_do_not_change(model: Model, tmp_path: Path) -> None:
    before = model(inputs(0))
    with moe_sim.watch(model, tmp_path) as trace:
        torch.testing.assert_close(model(inputs(0)), before, rtol=0, atol=0)
        trace.step()
        torch.testing.assert_close(model(inputs(0)), before, rtol=0, atol=0)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_layer_that_falls_silent_is_reported_once(model: Model, tmp_path: Path) -> None:
    with moe_sim.watch(model, tmp_path) as trace:
        model(inputs(0))
        trace.step()
        model.layers[1] = nn.Identity()
        model(inputs(0))
        with pytest.warns(BlindSpotWarning, match=r"layers\.1 routed nothing in this step"):
            trace.step()
        model(inputs(0))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            trace.step()


def test_a_compiled_part_is_pointed_out(model: Model, tmp_path: Path) -> None:
    model.head = torch.compile(model.head, backend="eager")  # type: ignore[assignment]
    with pytest.warns(BlindSpotWarning, match="head is compiled"):
        moe_sim.watch(model, tmp_path).close()
    other = Model(Loop)
    other.layers[0].compile(backend="eager")
    with pytest.warns(BlindSpotWarning, match=r"layers\.0 is compiled"):
        moe_sim.watch(other, tmp_path).close()


def test_what_is_on_another_device_is_counted_there_and_copied_once(model: Model, tmp_path: Path) -> None:
    """The meta device has no numbers, so reading one anywhere but in the record would fail."""
    from moe_sim.tracing.tally import Tally

    tally = Tally(EXPERTS, "logits", 2, torch.device("meta"))
    selection, mask = torch.zeros(30, 2, dtype=torch.long, device="meta"), torch.ones(30, device="meta").bool()
    tally.count(selection, mask, torch.zeros(30, dtype=torch.long, device="meta"))
    tally.count(selection, None, None)
    tally.score(torch.zeros(30, EXPERTS, device="meta"), mask)
    tally.score(torch.zeros(30, EXPERTS, device="meta"), None)
    tally.clear()


def test_the_columns_of_a_trace_as_tables(model: Model, tmp_path: Path) -> None:
    with moe_sim.watch(model, tmp_path) as trace:
        for step in range(2):
            model(inputs(step))
            trace.step(task_loss=1.0)
    history = open_trace(tmp_path)
    wide, tidy = history.to_frame(), history.to_frame(tidy=True)
    assert {"step", "task_loss", "imbalance_ratio_1", "load_1_5", "importance_0_0"} <= {*wide.columns}
    assert list(tidy.columns) == ["step", "layer", "expert", "load", "smoothed_load", "importance"]
    assert len(tidy) == 2 * 2 * EXPERTS
    one = tidy[(tidy.step == 2) & (tidy.layer == "layers.1") & (tidy.expert == 5)]
    assert one.load.item() == wide.load_1_5[1] == history.column("load")[1, 1, 5]
    with pytest.raises(KeyError, match=r"no column 'eval_load'; it has step"):
        history.column("eval_load")
