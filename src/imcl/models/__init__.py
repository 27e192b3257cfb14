"""The backbones. Each is the module of the same name, with a function `build`."""

BACKBONES = ("resnet18", "vgg16")
