from __future__ import annotations

import torch

from lorasmith.diffusion.noise import draw_noise

SHAPE = (4, 8, 8)


def test_the_noise_of_a_sample_does_not_depend_on_its_batch() -> None:
    together = draw_noise(SHAPE, 1, 2, [10, 20, 30], offset=0.1)
    assert together.shape == (3, *SHAPE)
    assert torch.equal(together[1:2], draw_noise(SHAPE, 1, 2, [20], offset=0.1))
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(together[:1], draw_noise(SHAPE, 1, 3, [10], offset=0.1))


def test_noise_is_standard_normal() -> None:
    noise = draw_noise(SHAPE, 0, 0, range(400))
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1) < 0.01


def test_the_offset_is_one_number_per_sample_and_channel() -> None:
    plain = draw_noise(SHAPE, 0, 0, range(400))
    added = draw_noise(SHAPE, 0, 0, range(400), offset=0.5) - plain
    torch.testing.assert_close(added, added[..., :1, :1].expand_as(added), rtol=0, atol=1e-6)
    assert abs(added[..., 0, 0].std() - 0.5) < 0.03


def test_the_offset_scales_one_fixed_draw() -> None:
    plain = draw_noise(SHAPE, 0, 0, [7])
    small = draw_noise(SHAPE, 0, 0, [7], offset=0.1) - plain
    large = draw_noise(SHAPE, 0, 0, [7], offset=0.3) - plain
    torch.testing.assert_close(3 * small, large, rtol=1e-4, atol=1e-6)
