"""Attributes a model's score of each patch of its frozen sample to pixels."""

import cv2

from slidestudy.explanations.attribution.attributing import attribute, choose_patches, member_weights
from slidestudy.explanations.patches import read_patch_folder, read_patches
from slidestudy.features.encoders import build_encoder
from slidestudy.features.normalisation import build_normaliser
from slidestudy.files import atomic_path
from slidestudy.job import rule_script
from slidestudy.models.checkpoint import load_ensemble
from slidestudy.models.cohort import patient_covariates
from slidestudy.models.splits import predicting_folds
from slidestudy.tables import load_table
from slidestudy.yaml_files import load_yaml

with rule_script(snakemake.log[0]):
    cv2.setNumThreads(1)
    inputs, settings = snakemake.input, load_yaml(snakemake.input.settings)
    features, model = load_yaml(inputs.features), load_yaml(inputs.model)
    # A compiled network cannot be looked into, and in half precision small gradients are lost.
    spec, tiles = features["encoder"] | {"compile": False, "precision": "fp32"}, features["tiles"]
    for folder in inputs.trained:
        spec["weights"] = f"{folder}/model.safetensors"
    weights_dir = snakemake.params.weights_dir
    encoder = build_encoder(spec, tiles["size"], tiles["mpp"], features["seed"], snakemake.threads, weights_dir)
    table = choose_patches(read_patch_folder(inputs.patches)[0], settings["patches"])
    folds, labels = load_ensemble(list(inputs.folds)), load_table(inputs.labels)
    together = model["splits"]["lookalikes"] == "keep-together"
    lookalikes = load_table(inputs.lookalikes) if together else None
    splits = load_table(inputs.splits)
    chosen = predicting_folds(splits, table["patient_id"], lookalikes, range(len(folds)))
    modality = model["modality"]["table"] if "modality" in model else None
    with atomic_path(snakemake.output.attributions) as partial:
        attribute(
            partial,
            table,
            list(read_patches(inputs.patches, table)),
            encoder,
            build_normaliser(spec["normaliser"]),
            folds,
            member_weights(folds, chosen, table["patient_id"]),
            settings,
            patient_covariates(labels, table["slide_id"], folds[0][0][1], modality),
        )
