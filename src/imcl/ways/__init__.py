"""The four ways of collaborative learning inside one network.

The registries: each way's variants with the options that a variant uses besides `weight` and
`ramp_up`, and each way's defaults (those of params.yaml). A way is the module of the same name
with a function `loss(options, parts)`; it is imported when first used, since the grid needs the
names but not torch.
"""

WAYS = {
    "output": {
        "dropout": ("temperature", "parts", "dropout_rate"),
        "spatial": ("temperature", "parts"),
        "channel": ("temperature", "parts"),
        "augment": ("temperature", "parts"),
    },
    "intermediate": {"relation": ("centred",), "attention": (), "augment": ("centred",)},
    "representation": {"correlation": (), "cosine": ()},
    "kernel": {"cosine": (), "orthogonal": ()},
}

DEFAULTS = {
    "output": {
        "variant": "augment",
        "weight": 45.0,
        "ramp_up": 0.2,
        "temperature": 2.0,
        "parts": 2,
        "dropout_rate": 0.3,
    },
    "intermediate": {"variant": "augment", "weight": 1.0, "ramp_up": 0.2, "centred": True},
    "representation": {"variant": "correlation", "weight": 1.0, "ramp_up": 0.2},
    "kernel": {"variant": "cosine", "weight": 10.0, "ramp_up": 0.2},
}
