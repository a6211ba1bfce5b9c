"""Adam against torch.optim and against its definition."""

import subprocess
import sys

import pytest
import torch

from moe_sim.trainer.optimizer import Adam


def test_many_steps_equal_torch_optim() -> None:
    random = torch.Generator().manual_seed(0)
    ours = [torch.randn(3, 4, generator=random), torch.randn(5, generator=random)]
    theirs = [tensor.clone().requires_grad_() for tensor in ours]
    adam, reference = Adam(ours), torch.optim.Adam(theirs, lr=0.01, fused=True)
    for step in range(20):
        rate = 0.01 if step < 10 else 0.003
        reference.param_groups[0]["lr"] = rate
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=random)
            other.grad = one.grad.clone()
        adam.step(rate)
        reference.step()
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other)


def test_the_first_step_is_the_learning_rate_against_the_sign_of_the_gradient() -> None:
    # m/(1−β1) = g and v/(1−β2) = g², so the step is −lr · g/(|g| + ε).
    weight = torch.tensor([1.0, 1.0])
    weight.grad = torch.tensor([4.0, -0.5])
    Adam([weight]).step(0.1)
    assert weight.tolist() == pytest.approx([0.9, 1.1])


def test_a_parameter_without_a_gradient_keeps_its_value_and_moments() -> None:
    random = torch.Generator().manual_seed(0)
    ours = [torch.randn(3, generator=random) for _ in range(2)]
    alone = [ours[1].clone()]
    adam, reference = Adam(ours), Adam(alone)
    for step in range(10):
        gradient = torch.randn(3, generator=random)
        before = ours[1].clone()
        adam.zero_grad()
        assert ours[0].grad is None
        ours[0].grad = torch.ones(3)
        # The second one learns only in every other step, as if the steps in between had not happened.
        if step % 2:
            ours[1].grad = alone[0].grad = gradient
            reference.step(0.01)
        adam.step(0.01)
        assert torch.equal(ours[1], before) == (step % 2 == 0)
        assert torch.equal(ours[1], alone[0])


def test_training_does_not_load_torchs_compiler() -> None:
    code = (
        "import sys; from moe_sim import RunConfig, Trainer; Trainer(RunConfig()).run(3);"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
