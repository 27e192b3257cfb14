"""What methods and columns mean, the names of classes, and the colour that each method has."""

from collections.abc import Sequence

from imcl.present import drawn

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = ["#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]

# The classes in the order of their numbers, for the sources that fix them.
CLASSES = {
    "cifar10": [
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ],
    "stl10": ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"],
}

MEANINGS = {
    "base": "The network alone, trained with cross-entropy.",
    "control": "Base with as many augmentations of each image as output compares, but without any "
    "way. It shows what the extra augmentations do by themselves.",
    "output": "Parts of the output layer teach each other: by default the predictions for two "
    "augmentations of an image.",
    "intermediate": "Intermediate layers agree: by default the features of two augmentations of an "
    "image, at every stage.",
    "representation": "The channels of each stage become less alike.",
    "kernel": "The kernels of each convolution become less alike.",
    "all": "The four ways together: output, intermediate, representation and kernel.",
    "multihead": "Song and Chai 2018: copies of the last stages learn from each other's mean "
    "prediction. One of them is kept.",
    "dml": "Deep mutual learning, Zhang et al. 2018: two networks imitate each other.",
    "one": "Lan et al. 2018: copies of the last stage imitate their gated ensemble.",
    "byot": "Be your own teacher, Zhang et al. 2019: early side branches imitate the deepest one.",
    "rdrop": "Liang et al. 2021: two passes with different dropout agree.",
    "cskd": "Yun et al. 2020: the predictions for two images of a class agree.",
    "label_smoothing": "A part of each target is spread over all classes.",
    "gce": "Zhang and Sabuncu 2018: a loss between cross-entropy and mean absolute error.",
    "sce": "Wang et al. 2019: cross-entropy plus the same with label and prediction swapped.",
    "elr": "Early-learning regularisation, Liu et al. 2020: predictions stay close to those from "
    "early in training, before wrong labels are memorised.",
    "gjs": "Generalised Jensen-Shannon divergence, Englesson and Azizpour 2021: a bounded loss by "
    "which the label and the predictions for two augmentations agree.",
    "coteaching": "Han et al. 2018: two networks; each learns from the images that the other finds "
    "easy.",
    "95 % t-interval": "If the study were repeated often with other seeds, 95 % of such intervals "
    "would hold the true mean. It assumes that the values scatter normally.",
    "paired by seed": "Runs with the same seed start from the same weights and see the images in "
    "the same order, so their difference is due to the method.",
    "Holm’s correction": "Among many comparisons some look significant by chance. This raises each "
    "p so that even one such mistake among all comparisons has a chance below 5 %.",
    "reduced size": "The network is narrower than the published one, or it was trained on a part "
    "of the dataset.",
    "accuracy (%)": "Share of the evaluated images that are right at the last epoch.",
    "to base": "Difference in accuracy to base, in points, paired by seed. Bold: significant.",
    "p": "Of the paired t-test against base, after Holm’s correction.",
    "oracle (%)": "Accuracy at the epoch that is best on the evaluated images. It is not a result, "
    "since it is chosen on these images.",
    "NLL": "Negative log-likelihood: how little the network expected the right class.",
    "ECE (%)": "Expected calibration error: how far confidence is from accuracy.",
    "channels × 1000": "Mean squared correlation between the channels of a stage.",
    "kernels × 1000": "Mean squared cosine between the kernels of a convolution.",
    "parameters": "Numbers that are trained.",
    "seconds": "Training time of a run, without evaluation.",
    "n": "Number of seeds.",
}


def looks(methods: Sequence[str]) -> dict[str, int]:
    """A number for each method, which gives its colour, shape and dash in every chart.

    The methods that the figures draw come first, so that they have the figures' colours.
    """
    first = drawn.lines(methods)
    ordered = [*first, *(method for method in methods if method not in first)]
    return {method: number for number, method in enumerate(ordered)}
