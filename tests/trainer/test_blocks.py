"""The blocks of the language model against torch's and transformers' modules with the same weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.models.gpt2.configuration_gpt2 import GPT2Config
from transformers.models.gpt2.modeling_gpt2 import GPT2Attention

from moe_sim import RunConfig, Trainer
from moe_sim.trainer.blocks import WIDTH_OF_HEAD, CausalAttention, DecoderBlock, LayerNorm

WIDTH, LENGTH, SEQUENCES = 64, 16, 3


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randn(SEQUENCES * LENGTH, WIDTH, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def attention() -> CausalAttention:
    random = torch.Generator().manual_seed(1)
    attention = CausalAttention(WIDTH, LENGTH, random)
    with torch.no_grad():
        for bias in (attention.bias_in, attention.bias_out):
            bias.copy_(torch.randn(bias.shape, generator=random))
    return attention


def test_attention_agrees_with_torch(tokens: torch.Tensor, attention: CausalAttention) -> None:
    theirs = nn.MultiheadAttention(WIDTH, WIDTH // WIDTH_OF_HEAD, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(attention.weight_in.T)
        theirs.in_proj_bias.copy_(attention.bias_in)
        theirs.out_proj.weight.copy_(attention.weight_out.T)
        theirs.out_proj.bias.copy_(attention.bias_out)
    x = tokens.view(SEQUENCES, LENGTH, WIDTH)
    mask = nn.Transformer.generate_square_subsequent_mask(LENGTH)
    expected, _ = theirs(x, x, x, attn_mask=mask, need_weights=False)
    torch.testing.assert_close(attention(tokens), expected.reshape(tokens.shape), atol=1e-5, rtol=0)


def test_attention_agrees_with_transformers(tokens: torch.Tensor, attention: CausalAttention) -> None:
    config = GPT2Config(n_embd=WIDTH, n_head=WIDTH // WIDTH_OF_HEAD, attn_pdrop=0.0, resid_pdrop=0.0)
    config._attn_implementation = "sdpa"
    theirs = GPT2Attention(config, layer_idx=0).eval()
    with torch.no_grad():
        theirs.c_attn.weight.copy_(attention.weight_in)
        theirs.c_attn.bias.copy_(attention.bias_in)
        theirs.c_proj.weight.copy_(attention.weight_out)
        theirs.c_proj.bias.copy_(attention.bias_out)
        expected = theirs(tokens.view(SEQUENCES, LENGTH, WIDTH))[0]
    torch.testing.assert_close(attention(tokens), expected.reshape(tokens.shape), atol=1e-5, rtol=0)


def test_layer_norm_agrees_with_torch(tokens: torch.Tensor) -> None:
    ours, theirs = LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
    random = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            one.copy_(torch.randn(WIDTH, generator=random))
            other.copy_(one)
    torch.testing.assert_close(ours(tokens), theirs(tokens), atol=1e-5, rtol=0)


def test_no_token_sees_a_later_one_or_another_sequence() -> None:
    trainer = Trainer(RunConfig(task="language", num_layers=2, top_k=2, renormalize=True, batch_tokens=128))
    inputs = trainer.held_out.batch.inputs[:128]
    changed = inputs.clone()
    changed[40] = (changed[40] + 1) % trainer.task.classes
    with torch.no_grad():
        before, after = (
            trainer.network(one, trainer.config, trainer.mechanisms, inference=True)[0] for one in (inputs, changed)
        )
    same = (before == after).all(1)
    assert same[:40].all()
    assert same[64:].all()
    assert not same[40:64].any()


def test_fewer_tokens_than_a_sequence_are_one_sequence() -> None:
    trainer = Trainer(RunConfig(task="language", num_layers=2, batch_tokens=64))
    inputs = trainer.held_out.batch.inputs[:64]
    with torch.no_grad():
        whole, part = (
            trainer.network(one, trainer.config, trainer.mechanisms, inference=True)[0] for one in (inputs, inputs[:10])
        )
    torch.testing.assert_close(part, whole[:10], atol=1e-5, rtol=0)


def test_a_block_is_attention_and_then_the_layer_each_around_a_residual_path(tokens: torch.Tensor) -> None:
    config = RunConfig(num_experts=4, task="language")
    block = DecoderBlock(config, WIDTH, LENGTH, torch.Generator().manual_seed(0))
    output, routing = block(tokens, config, Trainer(config).mechanisms[0])
    seen = tokens + block.attention(block.attention_norm(tokens))
    expected = seen + block.moe.experts(block.moe_norm(seen), routing)
    torch.testing.assert_close(output, expected)
