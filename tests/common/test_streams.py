"""Named streams: the name alone decides the bits."""

import pytest
import torch

from maskbench.common import streams


def test_a_seed_follows_from_the_words_and_is_the_same_everywhere() -> None:
    assert streams.seed_for(0, "init") == 1_519_069_808_562_059_438
    assert streams.seed_for(0, "order", 3, 1) == streams.seed_for(0, "order", 3, 1)
    assert len({streams.seed_for(seed, word, i) for seed in range(9) for word in "ab" for i in range(9)}) == 162
    assert 0 <= streams.seed_for("x") < 2**63


def test_a_generator_starts_afresh_and_disturbs_nobody() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    a, b = (torch.randperm(50, generator=streams.generator(7, "order")) for _ in range(2))
    assert torch.equal(a, b)
    assert torch.equal(torch.get_rng_state(), state)


def test_inside_a_stream_draws_are_its_own_and_after_it_as_before() -> None:
    torch.manual_seed(1)
    wanted = torch.randn(4)
    torch.manual_seed(1)
    with streams.seeded(0, "a"):
        first = torch.randn(4)
        with streams.seeded(0, "b"):
            torch.randn(4)
        second = torch.randn(4)
    assert torch.equal(torch.randn(4), wanted)
    with streams.seeded(0, "a"):
        assert torch.equal(torch.randn(4), first)
        assert torch.equal(torch.randn(4), second), "undisturbed by the inner one"


def test_the_streams_end_restores_after_an_error_too() -> None:
    state = torch.get_rng_state()
    with pytest.raises(KeyError), streams.seeded(0, "a"):
        torch.randn(3)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), state)
