"""The networks that the studies use, with their names in torchvision or timm.

`mobilenet_v2` of width 1.4 and Xception are timm's, which has weights for them; torchvision has none.
"""

from typing import Final

from training.studies.study import Backbone

VGG16: Final = Backbone("VGG16", "vgg16", 224)
MOBILENET_V2: Final = Backbone("MobileNetV2 1.4", "timm/mobilenetv2_140", 224)
INCEPTION_V3: Final = Backbone("InceptionV3", "inception_v3", 299)
RESNET50: Final = Backbone("ResNet50", "resnet50", 224)
INCEPTION_RESNET_V2: Final = Backbone("InceptionResNetV2", "timm/inception_resnet_v2", 299)
XCEPTION: Final = Backbone("Xception", "timm/legacy_xception", 299)
NASNET_LARGE: Final = Backbone("NASNet-Large", "timm/nasnetalarge", 331)
NASNET_MOBILE: Final = Backbone(
    "NASNet-Mobile",
    None,
    224,
    "neither torchvision nor timm has it; the nearest is timm/mnasnet_100, which is run instead",
)
NEAREST_TO_NASNET_MOBILE: Final = Backbone("MnasNet (for NASNet-Mobile)", "timm/mnasnet_100", 224)
DENSENET201: Final = Backbone("DenseNet201", "densenet201", 224)
RESNET18: Final = Backbone("ResNet18", "resnet18", 224)
RESNET18_V2: Final = Backbone("ResNet18 v2 (Gluon)", "timm/resnetv2_18", 224)
