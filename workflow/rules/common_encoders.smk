# What training an encoder depends on.


def pretraining_config(encoder):
    """How an encoder is trained by the study; None where its weights come from elsewhere."""
    entry = STUDY.config["encoders"][encoder]
    return entry["pretraining"] if entry.get("weights") == "study" else None


def trained_encoders():
    """The encoders that the study trains."""
    return [name for name in STUDY.config["encoders"] if pretraining_config(name)]


def weights_of(encoder):
    """The folder of an encoder that the study trains; nothing for any other."""
    trained = pretraining_config(encoder) is not None
    return [f"{RESULTS}/encoders/{encoder}"] if trained else []


def per_pretraining_slide(pattern):
    """A file of every admitted slide that gives tiles to an encoder."""
    return lambda wildcards: per_slide(
        pattern, pretraining_cohorts(STUDY.config, wildcards.encoder)
    )


def pretraining_slides(wildcards):
    """The slides that give tiles, themselves."""
    return [
        ENTRIES[slide]["path"]
        for slide in admitted_slides(
            pretraining_cohorts(STUDY.config, wildcards.encoder)
        )
    ]


def start_weights(wildcards):
    """The file of weights that the training starts from, if any."""
    start = pretraining_config(wildcards.encoder)["start"]
    return [] if start in ("none", "hub") else [start]


def pretraining_memory(wildcards):
    """Memory in MB: all tiles are held at once, beside the network."""
    recipe, side = pretraining_config(wildcards.encoder), STUDY.config["tiles"]["size"]
    cohorts = pretraining_cohorts(STUDY.config, wildcards.encoder)
    slides = sum(cohort in cohorts for cohort, _ in ENTRIES)
    # Twice, since the parts of the slides are joined.
    return 4000 + 2 * slides * recipe["tiles_per_slide"] * side * side * 3 // 1_000_000


def pretraining_threads(wildcards):
    """CPU threads of the training."""
    return pretraining_config(wildcards.encoder)["threads"]
