"""Geometric distortion of batches."""

import pytest
import torch

from karui.sw.train.augment import AugmentConfig, augment


def images(count: int = 8) -> torch.Tensor:
    return torch.randint(0, 256, (count, 2, 12, 6), generator=torch.Generator().manual_seed(0)).float()


def test_no_distortion_is_the_identity() -> None:
    assert torch.equal(augment(images(), AugmentConfig()), images())


def test_whole_pixel_shifts_move_every_pixel_alike() -> None:
    torch.manual_seed(0)
    config = AugmentConfig(shift=2, whole_pixels=True)
    shifts = set()
    for before, after in zip(images(200), augment(images(200), config), strict=True):
        found = []
        for down in range(-2, 3):
            for right in range(-2, 3):
                moved = torch.zeros(2, 16, 10)
                moved[:, 2 + down : 14 + down, 2 + right : 8 + right] = before
                if torch.equal(moved[:, 2:14, 2:8], after):
                    found.append((down, right))
        assert len(found) == 1
        shifts.add(found[0])
    assert len(shifts) == 25


def test_flip_mirrors_about_half_the_images() -> None:
    torch.manual_seed(1)
    before = images(400)
    after = augment(before, AugmentConfig(flip=True))
    mirrored = [torch.equal(x.flip(2), y) for x, y in zip(before, after, strict=True)]
    assert all(flip or torch.equal(x, y) for flip, x, y in zip(mirrored, before, after, strict=True))
    assert 150 < sum(mirrored) < 250


@pytest.mark.parametrize(
    "config",
    [
        AugmentConfig(rotation=10),
        AugmentConfig(scale=0.2),
        AugmentConfig(shear=0.2),
        AugmentConfig(elastic=1.0),
        AugmentConfig(shift=1.5),
    ],
    ids=str,
)
def test_distorted_pixels_stay_integers_in_range(config: AugmentConfig) -> None:
    torch.manual_seed(2)
    after = augment(images(), config)
    assert not torch.equal(after, images())
    assert torch.equal(after, after.round())
    assert after.min() >= 0
    assert after.max() <= 255


def test_rotation_keeps_a_disc_in_place() -> None:
    """Proves the centre of rotation and equal scales in both directions."""
    y, x = torch.meshgrid(torch.arange(21.0), torch.arange(21.0), indexing="ij")
    radius = ((y - 10) ** 2 + (x - 10) ** 2).sqrt()
    disc = ((8 - radius) * 30).clamp(0, 200)[None, None]
    torch.manual_seed(3)
    turned = augment(disc, AugmentConfig(rotation=180))
    assert (turned - disc).abs().max() < 15


def test_wrong_ranges_are_refused() -> None:
    with pytest.raises(ValueError, match="rotation must not be negative, not -1"):
        AugmentConfig(rotation=-1)
    with pytest.raises(ValueError, match="whole_pixels goes with shift and flip alone"):
        AugmentConfig(shift=1, elastic=1, whole_pixels=True)
    with pytest.raises(ValueError, match="elastic_grid must be at least 2, not 1"):
        AugmentConfig(elastic_grid=1)
