"""Scenes of digits: where there is ink there is a digit, and scenes repeat."""

from pathlib import Path

import numpy as np
import pytest
import torch

from karui.sw.data import segmentation
from karui.sw.data.datasets import load
from karui.sw.models.blocks import Stage
from karui.sw.models.build import build_model
from karui.sw.models.segnet import SegNetConfig
from karui.sw.train.config import TrainConfig
from karui.sw.train.evaluate import evaluate, mean_iou, tensors
from karui.sw.train.loop import EpochRecord, train


def test_scenes(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmentation, "TRAIN_SCENES", 60)
    monkeypatch.setattr(segmentation, "TEST_SCENES", 20)
    dataset = load("digit-segmentation", shared_data)
    assert dataset.image_shape == (1, 48, 48)
    assert dataset.train_labels.shape == (60, 48, 48)
    assert dataset.classes[:3] == ("background", "0", "1")
    # Every digit, and exactly the ink.
    assert set(np.unique(dataset.train_labels)) == set(range(11))
    assert np.array_equal(dataset.train_labels > 0, dataset.train_images[:, 0] >= segmentation.INK)
    for labels in dataset.test_labels:
        assert len(np.unique(labels)) >= 2
    again = load("digit-segmentation", shared_data)
    assert np.array_equal(again.test_images, dataset.test_images)
    assert np.array_equal(again.test_labels, dataset.test_labels)


def test_pixels_are_learnt(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training loop and the accuracy count pixels: background against digits is learnt at once."""
    monkeypatch.setattr(segmentation, "TRAIN_SCENES", 40)
    monkeypatch.setattr(segmentation, "TEST_SCENES", 10)
    dataset = load("digit-segmentation", shared_data)
    config = SegNetConfig(image=(1, 48, 48), stages=(Stage(channels=4), Stage(channels=4)))
    model = build_model(config)
    records: list[EpochRecord] = []
    train(
        model,
        *tensors(dataset.train_images, dataset.train_labels),
        TrainConfig(epochs=6, batch_size=10, learning_rate=0.03),
        on_epoch=lambda record, _: records.append(record),
    )
    assert 0.8 < records[-1].accuracy < 1
    accuracy = evaluate(model, *tensors(dataset.test_images, dataset.test_labels))
    assert 0.8 < accuracy < 1


def test_mean_intersection_over_union() -> None:
    """Of three classes by hand; a fourth is nowhere and has no share."""
    labels = torch.tensor([[[0, 0, 1], [1, 2, 2]]])
    predicted = torch.tensor([[[0, 1, 1], [1, 2, 0]]])
    assert mean_iou(predicted, labels, 4) == pytest.approx((1 / 3 + 2 / 3 + 1 / 2) / 3)
    assert mean_iou(labels, labels, 4) == 1.0
