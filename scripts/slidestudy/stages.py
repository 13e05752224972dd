"""A complete configuration cut into what each stage reads.

Each stage of the workflow depends on a file `settings/<stage>.yaml` that holds only what the stage reads
and is rewritten only when that changes; so a changed parameter reruns its stage and what follows, by time stamps.
"""

from __future__ import annotations

from slidestudy.settings import Config

FOR_READERS_ONLY = ("licence", "gated", "page", "token_env")
"""Keys of an encoder's entry that tell a person something and change no feature."""
NOT_TRAINING = ("cutoffs", "cutoff_rule", "options", "search", "label_efficiency")
"""Keys of a model that its training does not read, or that go into its recipe."""
VALIDATED = ("task", "target", "columns", "target_range", "cutoffs", "cutoff_rule")
"""Keys of a model that its validation reads."""
MEAN = ".mean"
"""What is added to a patch encoder's name where the mean of its features stands for a slide."""


def explanation_names(config: Config) -> list[str]:
    """The written explanations and their automatic controls, by name."""
    explanations = config["explanations"]
    names = list(explanations["texts"])
    if "inverted" in explanations["controls"]:
        names += [f"{name}.inverted" for name in explanations["texts"]]
    if "irrelevant" in explanations["controls"]:
        names.append("control.irrelevant")
    return names


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
    stages["report"]["truth"] = bool(config.get("truth"))
    return stages


def _bootstrap(config: Config) -> Config:
    """What stages other than the validation read of its section."""
    return {key: config["validation"][key] for key in ("bootstrap", "confidence")}


def _encoder_stages(config: Config) -> dict[str, Config]:
    """Patch features, the training of encoders, slide features, their comparison and summaries."""
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
            # A list, since the order in which cohorts are shown is the configuration's.
            "roles": [[c, spec["role"]] for c, spec in config["cohorts"].items() if spec["role"] != "pretraining"],
            "candidates": comparison_candidates(config, name),
        }
    for name in config["summaries"]["encoders"]:
        options = {k: v for k, v in config["summaries"].items() if k not in ("encoders", "biology")}
        stages[f"summaries.{name}"] = {"encoder": name, "seed": seed, **_bootstrap(config), **options}
    return stages


def _model_stages(config: Config) -> dict[str, Config]:
    """Training and validation of each model."""
    seed, stages = config["seed"], {}
    for name, model in config["models"].items():
        stages[f"models.{name}"] = {"name": name, "seed": seed}
        stages[f"models.{name}"] |= {k: v for k, v in model.items() if k not in NOT_TRAINING}
        stages[f"models.{name}"]["training"] = {**model["training"], "options": model["options"]}
        validation = {
            "model": name,
            "seed": seed,
            **config["validation"],
            **{k: model[k] for k in VALIDATED if k in model},
        }
        truth_column = config.get("truth", {}).get("columns", {}).get(name)
        stages[f"validation.{name}"] = {**validation, "truth_column": truth_column}
        if "search" in model:
            stages[f"search.{name}"] = {"seed": seed, **model["search"]}
        if "label_efficiency" in model:
            # Not the validation's keys: a changed bootstrap would train all shares anew.
            stages[f"label_efficiency.{name}"] = dict(model["label_efficiency"])
    return stages


def _explanation_stages(config: Config) -> dict[str, Config]:
    """The patch sample, the reader and the scores."""
    seed, explanations = config["seed"], config["explanations"]
    sample, reader = explanations["sample"], explanations["reader"]
    kept = {k: v for k, v in sample.items() if k not in ("x1", "x3")}
    return {
        "explanations.sample": {**kept, "seed": seed, "tiles": config["tiles"]},
        "explanations.reader": {"seed": seed, **reader} if reader["kind"] == "vlm" else reader,
        "explanations.scores": {**_bootstrap(config), "seed": seed, "x1": sample["x1"], "x3": sample["x3"]},
    }
