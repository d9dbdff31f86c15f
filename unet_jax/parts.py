"""Parts that a config has where it names them, with the defaults of their keys; imports nothing."""

from typing import Any

PARTS: dict[str, dict[str, dict[str, Any]]] = {
    "augment": {
        "flip": {"left_right": False, "up_down": False},
        "zoom": {"scale": (1.0, 1.0), "aspect": 1.0, "probability": 1.0},
        "colour": {
            "brightness": 0.0,
            "contrast": 0.0,
            "saturation": 0.0,
            "hue": 0.0,
            "probability": 1.0,
        },
        "turn": {"quarters": ()},
        "rotation": {"degrees": 0.0, "probability": 1.0},
        "shear": {"degrees": 0.0, "probability": 1.0},
        "translation": {"share": 0.0, "probability": 1.0},
        "sampling": {"cubic": False},
        "gamma": {"power": (1.0, 1.0), "probability": 1.0},
        "noise": {"sigma": 0.0, "probability": 1.0},
        "blur": {"sigma": 0.0, "probability": 1.0},
        "low_resolution": {"scale": 1.0, "probability": 1.0},
        "ringing": {"cut": 0.0, "probability": 1.0},
        "jpeg": {"quality": 100.0, "probability": 1.0},
        "elastic": {"deviation": 0.0, "points": 3, "probability": 1.0},
        "cutout": {"share": (0.0, 0.0), "count": 1, "probability": 1.0},
        "cutmix": {"share": (0.0, 0.0), "probability": 1.0},
        "copy_paste": {"classes": (), "probability": 1.0},
    },
    "loss": {
        "cross_entropy": {
            "weight": 1.0,
            "ramp": (),
            "class_weights": (),
            "label_smoothing": 0.0,
            "top_k": 0.0,
            "border_weight": 0.0,
            "border_sigma": 5.0,
        },
        "dice": {"weight": 1.0, "ramp": (), "class_weights": ()},
        "binary_cross_entropy": {"weight": 1.0, "ramp": ()},
        "focal": {"weight": 1.0, "ramp": (), "gamma": 2.0, "alpha": ()},
        "generalised_dice": {"weight": 1.0, "ramp": ()},
        "tversky": {
            "weight": 1.0,
            "ramp": (),
            "false_positives": 0.3,
            "false_negatives": 0.7,
            "gamma": 1.0,
            "class_weights": (),
        },
        "lovasz": {"weight": 1.0, "ramp": (), "class_weights": ()},
        "lovasz_hinge": {"weight": 1.0, "ramp": (), "class_weights": ()},
        "boundary": {"weight": 1.0, "ramp": ()},
        "cldice": {"weight": 1.0, "ramp": (), "iterations": 10, "classes": ()},
    },
    "eval.metrics": {
        "per_image": {"classes": ()},
        "surface": {"tolerance": 2.0, "units": "spacing", "classes": ()},
        "boundary": {"width": 0.02, "classes": ()},
        "cldice": {"classes": ()},
        "objects": {"connectivity": "sides", "classes": ()},
        "sizes": {"connectivity": "sides", "classes": ()},
        "cleaning": {"rules": ()},
        "segments": {"inside": 1, "threshold": 0.0, "thin": False},
        "curves": {"classes": ()},
        "calibration": {"temperature": 0.0},
    },
}
"""Steps of the augmentation, terms of the loss and metrics beside those that are always there.

A config has those it names, in that order.
"""
