"""Networks: backbones, the classifier of class activation maps, suppression, segmentation, and their files."""

from camshaft.engine.models.affinity import AffinityNet, AffinityNetSettings, LevelSettings, build_affinity_net
from camshaft.engine.models.backbone import Backbone
from camshaft.engine.models.backbones import BackboneSettings, build_backbone
from camshaft.engine.models.cam import Classifier, ClassifierSettings, build_classifier
from camshaft.engine.models.network_file import describe, load_network, read_description, rebuild, save_network
from camshaft.engine.models.parameters import MultiplierSettings, ParameterGroup, parameter_groups
from camshaft.engine.models.segmentation import (
    ASPPSettings,
    LargeFOVSettings,
    Segmenter,
    SegmenterSettings,
    build_segmenter,
)
from camshaft.engine.models.suppression import Suppression, SuppressionSettings, plug_suppression
from camshaft.engine.models.weights import load_weights, read_weights, weights_file

__all__ = [
    "ASPPSettings",
    "AffinityNet",
    "AffinityNetSettings",
    "Backbone",
    "BackboneSettings",
    "Classifier",
    "ClassifierSettings",
    "LargeFOVSettings",
    "LevelSettings",
    "MultiplierSettings",
    "ParameterGroup",
    "Segmenter",
    "SegmenterSettings",
    "Suppression",
    "SuppressionSettings",
    "build_affinity_net",
    "build_backbone",
    "build_classifier",
    "build_segmenter",
    "describe",
    "load_network",
    "load_weights",
    "parameter_groups",
    "plug_suppression",
    "read_description",
    "read_weights",
    "rebuild",
    "save_network",
    "weights_file",
]
