# What training, predicting and adopting a model depends on.

ADOPTED = [k for k, model in STUDY.config["models"].items() if "predictions" in model]
PUBLISHED = [k for k, model in STUDY.config["models"].items() if "published" in model]
TRAINED = [k for k in STUDY.config["models"] if k not in [*PUBLISHED, *ADOPTED]]
SEARCHED = [name for name in TRAINED if "search" in STUDY.config["models"][name]]
EFFICIENCY = [
    name for name in TRAINED if "label_efficiency" in STUDY.config["models"][name]
]
SHARED = [k for k in TRAINED if STUDY.config["models"][k]["training"]["share_load"]]
COMPARED = [k for k in STUDY.config["models"] if rivals_of(STUDY.config, k)]
SUBGROUPS = STUDY.config["validation"]["subgroups"]
SUBGROUPED = list(STUDY.config["models"]) if SUBGROUPS else []
SCORED = [k for k in STUDY.config["models"] if survival_endpoints(STUDY.config, k)]

HEATMAPS = STUDY.config["validation"]["heatmaps"]["slides"]
MAPPED = [k for k in STUDY.config["models"] if k not in ADOPTED and HEATMAPS != 0]


def model_config(wildcards):
    """The configuration of the model that the wildcards name."""
    return STUDY.config["models"][wildcards.model]


def predictions_of(model):
    """A model's predictions of every cohort."""
    return [f"{RESULTS}/predictions/{model}/{cohort}.tsv" for cohort in COHORTS]


def rival_predictions(wildcards):
    """The predictions of a model's rivals, all cohorts of the first, then of the second, and so on."""
    rivals = rivals_of(STUDY.config, wildcards.model)
    return [path for rival in rivals for path in predictions_of(rival)]


def group_records(wildcards):
    """The inspection records, where groups are made of what they say and no table does."""
    inspected = inspected_columns(SUBGROUPS, STUDY.slides, STUDY.patients)
    return inspections(wildcards) if inspected else []


def trained_stores(model):
    """The stores that a model is trained on."""
    encoder = STUDY.config["models"][model]["encoder"]
    return cohort_stores(encoder, STUDY.cohorts("development"))


def development_stores(wildcards):
    """The stores that the model of the wildcards is trained on."""
    return trained_stores(wildcards.model)


def predicted_stores(wildcards):
    """The stores of the cohort that a model predicts."""
    return cohort_stores(model_config(wildcards)["encoder"], [wildcards.cohort])


def folds_of(model):
    """The numbers of a model's folds: of published weights, one for each file."""
    spec = STUDY.config["models"][model]
    if model in PUBLISHED:
        return range(len(spec["published"]["files"]))
    return range(count_folds(SplitScheme.of(spec), STUDY.labelled(model)))


def fold_outputs(wildcards):
    """The folds of a model."""
    folder = f"{RESULTS}/models/{wildcards.model}"
    return [f"{folder}/fold-{fold}" for fold in folds_of(wildcards.model)]


def searches_of(model, folds):
    """What the search of hyper-parameters found in each fold, where the model has a search."""
    folder = f"{RESULTS}/models/{model}/search"
    return [f"{folder}/fold-{fold}" for fold in folds] if model in SEARCHED else []


def search_output(wildcards):
    """What the search of a fold's hyper-parameters found, where its model has a search."""
    return searches_of(wildcards.model, [wildcards.fold])


def external_stores(wildcards):
    """The stores of the external cohorts, by a model's encoder; none where a study has none."""
    external = STUDY.cohorts("external")
    encoder = model_config(wildcards)["encoder"]
    return cohort_stores(encoder, external) if external else []


def share_outputs(wildcards):
    """The folds that a model was trained on shares of."""
    folder = f"{RESULTS}/models/{wildcards.model}/label-efficiency"
    return [f"{folder}/fold-{fold}" for fold in folds_of(wildcards.model)]


def training_memory(model):
    """The memory of a training, MB: that of its features, and what Python, torch and a pack take."""
    memory = STUDY.config["models"][model]["training"]["memory_gb"]
    return 2000 + round(1024 * memory)


def share_memory(wildcards):
    """The memory of a fold's trainings on shares, MB: that of one, and 16 for the weights of each."""
    spec = model_config(wildcards)
    shares, training = spec["label_efficiency"], spec["training"]
    models = len(shares["fractions"]) * shares["repeats"] * training["seeds"]
    return training_memory(wildcards.model) + 16 * models


def share_runtime(wildcards):
    """The time of a fold's trainings on shares, minutes: that of a fold for each whole part that they add up to."""
    shares = model_config(wildcards)["label_efficiency"]
    return 240 * max(1, round(sum(shares["fractions"]) * shares["repeats"]))


def split_table(wildcards):
    """The table that deals a model's slides into parts, where one is given."""
    splits = model_config(wildcards)["splits"]
    return [splits["table"]] if splits["scheme"] == "table" else []


def modality_table(wildcards):
    """The table of a model's second modality, where it takes one."""
    modality = model_config(wildcards).get("modality")
    return [modality["table"]] if modality else []


def published_file(wildcards):
    """The file of weights behind a fold."""
    return model_config(wildcards)["published"]["files"][int(wildcards.fold)]


def predictions_file(wildcards):
    """The file of predictions that a model is."""
    return model_config(wildcards)["predictions"]


def adopting_stores(wildcards):
    """The feature stores that published weights are applied to."""
    return cohort_stores(model_config(wildcards)["encoder"], COHORTS)


def recipe_sources(wildcards):
    """What decides the recipe of a model's features; of imported ones their files do, which the stores follow."""
    encoder = model_config(wildcards)["encoder"]
    settings = [f"{RESULTS}/settings/features.{encoder}.yaml"]
    if encoder in IMPORTED:
        return settings + adopting_stores(wildcards)
    return settings + weights_of(encoder) + template_of(encoder)


def heatmap_folders():
    """The folders of heatmaps: of each model with tile scores, and each cohort of which a slide has a file."""
    filed = {cohort for (cohort, _), entry in ENTRIES.items() if entry["path"]}
    return [
        f"{RESULTS}/heatmaps/{model}/{cohort}"
        for model in MAPPED
        for cohort in COHORTS
        if cohort in filed
    ]


def drawable_slides(wildcards):
    """The admitted slides of a cohort that have a file, `(cohort, slide)`."""
    found = admitted_slides([wildcards.cohort])
    return [key for key in found if ENTRIES[key]["path"]]


def drawable_entries(wildcards):
    """The rows of the study of a cohort's slides that have a file."""
    folder = f"{RESULTS}/settings/slides"
    return [f"{folder}/{cohort}/{s}.json" for cohort, s in drawable_slides(wildcards)]


def drawable_inspections(wildcards):
    """The inspection records of a cohort's slides that have a file."""
    folder = f"{RESULTS}/slides"
    return [f"{folder}/{cohort}/{s}.json" for cohort, s in drawable_slides(wildcards)]


def paper_sources(wildcards):
    """The tables beside a model's metrics that the configuration asks for, by name."""
    name, folder = wildcards.model, f"{RESULTS}/validation/{wildcards.model}"
    wanted = {"cox": SCORED, "comparison": COMPARED, "subgroups": SUBGROUPED}
    found = {
        key: f"{folder}/{key}.tsv" for key, models in wanted.items() if name in models
    }
    encoder = model_config(wildcards).get("encoder")
    if encoder in SHIFTED:
        found["shift"] = f"{RESULTS}/shift/{encoder}/shift.tsv"
    return found
