"""The networks that karui knows by name: those of the papers, and small versions for 28x28 and 32x32 images."""

from karui.sw.models import (
    alexnet,
    capsnet,
    inception,
    mnist_cnn,
    mobilenet,
    resnet,
    segnet,
    shufflenet,
    squeezenet,
    vgg,
    xception,
)
from karui.sw.models.build import FloatConfig, LightConfig

SMALL_IMAGE = (1, 28, 28)

PUBLISHED: dict[str, LightConfig] = {
    "mobilenet": mobilenet.MobileNetConfig(),
    "mobilenet-v2": mobilenet.MobileNetV2Config(),
    "squeezenet-1.0": squeezenet.SqueezeNetConfig(stem=squeezenet.STEM_1_0, stages=squeezenet.STAGES_1_0),
    "squeezenet-1.1": squeezenet.SqueezeNetConfig(),
    "shufflenet": shufflenet.ShuffleNetConfig(),
    "xception": xception.XceptionConfig(),
    "googlenet": inception.InceptionConfig(),
    "resnet-50": resnet.ResNetConfig(),
    "resnet-152": resnet.ResNetConfig(stages=resnet.STAGES_152),
    "capsnet": capsnet.CapsNetConfig(),
}

# Of ordinary layers, which binary decomposition starts from.
PLAIN: dict[str, FloatConfig] = {
    "alexnet": alexnet.AlexNetConfig(),
    "vgg-16": vgg.VggConfig(),
    "segnet": segnet.SegNetConfig(),
    "mnist-cnn": mnist_cnn.MnistCnnConfig(),
}

SMALL: dict[str, LightConfig] = {
    "mobilenet-small": mobilenet.MobileNetConfig(
        image=SMALL_IMAGE, classes=10, stem_stride=1, stages=mobilenet.V1_SMALL_STAGES
    ),
    "mobilenet-v2-small": mobilenet.MobileNetV2Config(
        image=SMALL_IMAGE, classes=10, stem_stride=1, stages=mobilenet.V2_SMALL_STAGES, head=256
    ),
    "squeezenet-small": squeezenet.SqueezeNetConfig(
        image=SMALL_IMAGE,
        classes=10,
        stem=squeezenet.SMALL_STEM,
        stages=squeezenet.SMALL_STAGES,
        padded=True,
        batch_norm=True,
        linear_classifier=True,
    ),
    "shufflenet-small": shufflenet.ShuffleNetConfig(
        image=SMALL_IMAGE, classes=10, stem=shufflenet.SMALL_STEM, stages=shufflenet.SMALL_STAGES
    ),
    "xception-small": xception.XceptionConfig(
        image=SMALL_IMAGE,
        classes=10,
        stem=xception.SMALL_STEM,
        entry=xception.SMALL_ENTRY,
        middle_blocks=xception.SMALL_MIDDLE_BLOCKS,
        exit=None,
        tail=xception.SMALL_TAIL,
    ),
    "inception-small": inception.InceptionConfig(
        image=SMALL_IMAGE, classes=10, stem=inception.SMALL_STEM, modules=inception.SMALL_MODULES, batch_norm=True
    ),
    "resnet-small": resnet.ResNetConfig(
        image=SMALL_IMAGE, classes=10, stem=resnet.SMALL_STEM, stages=resnet.SMALL_STAGES
    ),
}

NETWORKS: dict[str, LightConfig | FloatConfig] = {**PUBLISHED, **PLAIN, **SMALL}
