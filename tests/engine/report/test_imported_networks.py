"""Figures of networks whose backbone comes from an installed package, by import path."""

import pytest

from camshaft.engine.errors import StoreError, WeightsError
from camshaft.engine.models import ClassifierSettings, build_classifier, save_network
from camshaft.engine.report.figures import classifier_of, features_figure, network_of
from camshaft.engine.report.records import read_run

BACKBONE = {
    "name": "efficientnet_lite_pytorch:EfficientNet.from_name",
    "arguments": {"model_name": "efficientnet-lite0"},
    "features": "_bn1",
    "normalization": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
}


@pytest.fixture
def made(builder, scenes, tmp_path):
    """A run with such a classifier, and one for other classes."""
    settings = ClassifierSettings.model_validate({"backbone": BACKBONE})
    for name, classes in (("stock", scenes.classes), ("foreign", ("a", "b"))):
        folder = builder.stage(name, "classify", {})
        save_network(folder / "network.safetensors", build_classifier(settings, classes, tmp_path, pretrained=False))
    return read_run(builder.finish())


def test_the_run_s_own_network_may_import_its_backbone(made, scenes):
    layers = list(network_of(made, "stock").layers())
    figure = features_figure(
        made, scenes, ["stock"], layers[-1:], [scenes.ids("val")[0]], "val", with_unsuppressed=False
    )
    assert f"mean feature maps of stock at {layers[-1]}" in figure.words


def test_a_classifier_of_other_classes_is_refused(made, scenes):
    assert classifier_of(made, scenes, "stock").classes == scenes.classes
    with pytest.raises(WeightsError, match="was made for the classes a, b, but the data has"):
        classifier_of(made, scenes, "foreign")
    with pytest.raises(StoreError, match="the run has no stage 'stork'; did you mean 'stock'"):
        classifier_of(made, scenes, "stork")
