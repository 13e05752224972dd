"""A complete configuration cut into what each stage reads.

Each stage of the workflow depends on a file `settings/<stage>.yaml` that holds only what the stage reads
and is rewritten only when that changes; so a changed parameter reruns its stage and what follows, by time stamps.
"""

from __future__ import annotations

from slidestudy.labels import is_survival, target_columns
from slidestudy.reader_kinds import answering_settings, reaching_settings
from slidestudy.settings import Config

FOR_READERS_ONLY = ("licence", "gated", "page", "token_env")
"""Keys of an encoder's entry that tell a person something and change no feature."""
NOT_TRAINING = ("cutoffs", "cutoff_rule", "options", "search", "label_efficiency")
"""Keys of a model that its training does not read, or that go into its recipe."""
VALIDATED = ("task", "target", "columns", "target_range", "cutoffs", "cutoff_rule")
"""Keys of a model that its validation reads."""
MEASURED = ("bootstrap", "confidence", "interval")
"""Keys of the validation that every model's metrics read."""
MEAN = ".mean"
"""What is added to a patch encoder's name where the mean of its features stands for a slide."""


def slide_encoders(config: Config) -> dict[str, Config]:
    """The slide encoders of a study: those configured, and the mean of each patch encoder."""
    means = {
        f"{name}{MEAN}": {"backend": "mean", "encoder": name, "weights": "none", "precision": "fp32"}
        for name in config["encoders"]
    }
    return {**config["slide_encoders"], **means}


def comparison_candidates(config: Config, name: str) -> list[str]:
    """The slide encoders that a comparison is between; a patch encoder's name stands for its mean."""
    every = slide_encoders(config)
    chosen = config["comparisons"][name]["encoders"]
    return [wanted if wanted in every else f"{wanted}{MEAN}" for wanted in chosen] or list(every)


def pretraining_cohorts(config: Config, encoder: str) -> list[str]:
    """The cohorts whose tiles train an encoder: those named, else those for it, else (without labels) development."""
    options = config["encoders"][encoder]["pretraining"]
    roles = {name: cohort["role"] for name, cohort in config["cohorts"].items()}
    reserved = [name for name, role in roles.items() if role == "pretraining"]
    if options["cohorts"] or reserved or options["method"] == "fine-tune":
        return options["cohorts"] or reserved
    return [name for name, role in roles.items() if role == "development"]


def shift_encoders(config: Config) -> list[str]:
    """The encoders of models, whose shift from development to external cohorts is measured; none without both."""
    if not {"development", "external"} <= {cohort["role"] for cohort in config["cohorts"].values()}:
        return []
    used = {model.get("encoder") for model in config["models"].values()}
    return [name for name in config["encoders"] if name in used]


def _cohort_roles(config: Config) -> list[list[str]]:
    """Cohorts that are studied, with their roles; a list, since they are shown in the configuration's order."""
    return [[name, spec["role"]] for name, spec in config["cohorts"].items() if spec["role"] != "pretraining"]


def survival_endpoints(config: Config, model: str) -> dict[str, Config]:
    """The endpoints of which a model is a score, each with that score first and without those of other models."""
    found = {}
    for name, endpoint in config["validation"]["survival"].items():
        scores = endpoint["scores"]
        if model in scores:
            columns = {key: options for key, options in scores.items() if key not in config["models"]}
            found[name] = {**endpoint, "scores": {model: scores[model], **columns}}
    return found


def rivals_of(config: Config, model: str) -> list[str]:
    """The other models of a study that predict the same: the same target, task and range.

    Both survival tasks predict a risk, and are one task here.
    """
    models = config["models"]
    own = _predicted(models[model])
    return [name for name in models if name != model and own and _predicted(models[name]) == own]


def _predicted(model: Config) -> list[object]:
    """What a model predicts: task, columns and range; nothing without labels."""
    columns = sorted(target_columns(model))
    task = "survival" if is_survival(model["task"]) else model["task"]
    return [task, columns, model.get("target_range")] if columns else []


def stage_settings(config: Config) -> dict[str, Config]:
    """Cuts a complete configuration into what each stage reads.

    Returns:
        Stage name -> settings; written to `settings/<stage>.yaml`.
    """
    stages: dict[str, Config] = {"slides": config["inspection"], "tissue": config["tissue"]}
    stages |= _encoder_stages(config)
    stages |= _model_stages(config)
    stages |= _explanation_stages(config)
    shown = ("study", "seed", "cohorts", "tiles", "encoders", "models", "explanations", "comparisons")
    stages["report"] = {k: config[k] for k in shown}
    stages["report"]["summaries"] = config["summaries"]["encoders"]
    stages["report"]["shifts"] = shift_encoders(config)
    stages["report"]["subgroups"] = list(config["validation"]["subgroups"])
    stages["report"]["truth"] = bool(config.get("truth"))
    return stages


def _bootstrap(config: Config) -> Config:
    """What stages other than the validation read of its section."""
    return {key: config["validation"][key] for key in ("bootstrap", "confidence")}


def _encoder_stages(config: Config) -> dict[str, Config]:
    """Patch features, the training of encoders, slide features, their comparison, summaries and shift."""
    seed, stages = config["seed"], {}
    for name, encoder in config["encoders"].items():
        entry = {"name": name, **{k: v for k, v in encoder.items() if k not in FOR_READERS_ONLY}}
        pretraining = entry.pop("pretraining", None)
        stages[f"features.{name}"] = {"encoder": entry, "tiles": config["tiles"], "seed": seed}
        if name in config["features"]["import"]:
            stages[f"features.{name}"]["import"] = config["features"]["import"][name]
        if pretraining is not None:
            model = {k: v for k, v in entry.items() if k not in ("batch_size", "precision", "compile", "normaliser")}
            own = {"encoder": model, "pretraining": pretraining, "tiles": config["tiles"], "seed": seed}
            stages[f"pretraining.{name}"] = own
    for name, slide_encoder in slide_encoders(config).items():
        stages[f"slide_encoders.{name}"] = {"name": name, **slide_encoder}
    for name, comparison in config["comparisons"].items():
        keys = ("target", "task", "target_range", "folds", "group_by", "biology", "neighbours")
        stages[f"comparisons.{name}"] = {
            "name": name,
            "seed": seed,
            **_bootstrap(config),
            **{k: comparison[k] for k in keys},
            "roles": _cohort_roles(config),
            "candidates": comparison_candidates(config, name),
        }
    for name in config["summaries"]["encoders"]:
        options = {k: v for k, v in config["summaries"].items() if k not in ("encoders", "biology")}
        stages[f"summaries.{name}"] = {"encoder": name, "seed": seed, **_bootstrap(config), **options}
    for name in shift_encoders(config):
        own = {"encoder": name, "seed": seed, "roles": _cohort_roles(config)}
        stages[f"shift.{name}"] = {**own, **_bootstrap(config), **config["validation"]["shift"]}
    return stages


def _made_by(name: str, model: Config, seed: int) -> Config:
    """What a model's training reads, or of predictions from a file what they are taken over by."""
    if "predictions" in model:
        return {"name": name, **{key: model[key] for key in ("predictions", "task", "target", "columns")}}
    kept = {key: value for key, value in model.items() if key not in NOT_TRAINING}
    return {"name": name, "seed": seed, **kept, "training": {**model["training"], "options": model["options"]}}


def _model_stages(config: Config) -> dict[str, Config]:
    """Training and validation of each model."""
    seed, stages = config["seed"], {}
    for name, model in config["models"].items():
        stages[f"models.{name}"] = _made_by(name, model, seed)
        validation = {
            "model": name,
            "seed": seed,
            **{key: config["validation"][key] for key in MEASURED},
            **{k: model[k] for k in VALIDATED if k in model},
        }
        truth_column = config.get("truth", {}).get("columns", {}).get(name)
        stages[f"validation.{name}"] = {**validation, "truth_column": truth_column}
        if endpoints := survival_endpoints(config, name):
            stages[f"survival.{name}"] = {"model": name, "seed": seed, **_bootstrap(config), "endpoints": endpoints}
        keys = ("task", "columns", "cutoffs", "cutoff_rule")
        measured = {"model": name, "seed": seed, **{k: model[k] for k in keys if k in model}}
        if "predictions" not in model:
            drawn = {key: model[key] for key in ("task", "columns", "target_range") if key in model}
            stages[f"heatmaps.{name}"] = {"model": name, **drawn, **config["validation"]["heatmaps"]}
        if rivals := rivals_of(config, name):
            stages[f"model_comparisons.{name}"] = {**measured, **_bootstrap(config), "rivals": rivals}
        if subgroups := config["validation"]["subgroups"]:
            options = {key: config["validation"][key] for key in MEASURED}
            # A list, since the columns are shown in the configuration's order.
            columns = [{"column": column, **keys} for column, keys in subgroups.items()]
            stages[f"subgroups.{name}"] = {**measured, **options, "subgroups": columns}
        if "search" in model:
            stages[f"search.{name}"] = {"seed": seed, **model["search"]}
        if "label_efficiency" in model:
            # Not the validation's keys: a changed bootstrap would train all shares anew.
            stages[f"label_efficiency.{name}"] = dict(model["label_efficiency"])
    return stages


def _explanation_stages(config: Config) -> dict[str, Config]:
    """The patch sample, its attribution, the reader and the scores."""
    seed, explanations = config["seed"], config["explanations"]
    sample, reader = explanations["sample"], explanations["reader"]
    kept = {k: v for k, v in sample.items() if k not in ("x1", "x3")}
    scored = {key: sample[key] for key in ("unit", "x1", "x3")}
    test = {"smallest_auroc": explanations["gate"]["smallest_auroc"]}
    return {
        "explanations.sample": {**kept, "seed": seed, "tiles": config["tiles"]},
        "explanations.attribution": {**_bootstrap(config), "seed": seed, **explanations["attribution"]},
        "explanations.reader": {"reader": answering_settings(reader, seed), "repeats": explanations["repeats"]},
        "explanations.endpoint": reaching_settings(reader),
        "explanations.gate": {**_bootstrap(config), "seed": seed, **test},
        "explanations.scores": {**_bootstrap(config), "seed": seed, "smallest": explanations["smallest"], **scored},
    }
