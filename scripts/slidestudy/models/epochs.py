"""One epoch after the other: packs through the model, losses, steps, and outputs of the validation part."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from slidestudy.errors import StudyError
from slidestudy.models.bags import feature_moments
from slidestudy.models.loading import GIGABYTE, Draw, Loader, Pack, Source, generator_of, seed_of, share_budget
from slidestudy.models.losses import (
    ClassWeights,
    class_weights,
    contrastive_loss,
    cox_loss,
    label_counts,
    part_loss,
    slide_losses,
)
from slidestudy.models.mil import build_model
from slidestudy.models.modality import Modality
from slidestudy.models.optimisation import (
    PACK_TILES,
    check_precision,
    clip_and_step,
    make_average,
    make_optimiser,
    pick_device,
    rate_factor,
)
from slidestudy.models.packing import MilOutput
from slidestudy.models.survival import CoxSurvival
from slidestudy.models.targets import Classification, Multiclass, Targets, Task

ORDER, DROPOUT = 101, 102
"""Keys that keep apart what is drawn in an epoch: the order of slides, and dropout."""


@dataclass(frozen=True)
class Part:
    """The training or the validation part of a fold.

    Attributes:
        source: Where the features are.
        targets: The labels, in the order of the source's slides.
        covariates: float32 (n_slides, n_covariates), NaN where missing; None for none.
        modality: The second modality, whose columns are the last of the covariates; None without.
    """

    source: Source
    targets: Targets
    covariates: torch.Tensor | None = None
    modality: Modality | None = None


class Diverged(Exception):
    """A loss or a gradient that is no finite number."""


class Trainer:
    """A model under training, and all that one epoch changes.

    Args:
        train: The training part.
        validation: The validation part.
        task: The task.
        architecture: What `build_model` needs.
        recipe: The complete recipe.
        seed: The seed; the caller has seeded torch with it.
        where: The fold, for messages.
    """

    def __init__(
        self,
        train: Part,
        validation: Part,
        task: Task,
        architecture: dict[str, Any],
        recipe: Mapping[str, Any],
        seed: int,
        where: str,
    ) -> None:
        self.task, self.recipe, self.seed, self.where = task, recipe, seed, where
        self.device = pick_device()
        check_precision(recipe["precision"], self.device)
        self.parts = {"train": train, "validation": validation}
        self.model = build_model(architecture).to(self.device)
        self.average = make_average(self.model, recipe["ema"])
        self.optimiser = make_optimiser(self.model, recipe)
        balanced = recipe["class_weights"]
        self.class_weights = class_weights(task, train.targets) if balanced else ClassWeights()
        self.risks = torch.zeros(len(train.targets))
        """Of Cox: the latest risk of every training slide."""
        self.learning_rate = 0.0
        self._step = 0
        # Batch statistics, and similarities of slides, are of a whole batch, which must then be one pack.
        self._normalised = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in self.model.modules())
        self._joint = self._normalised or bool(recipe["contrastive_weight"])
        self._loaders = self._make_loaders()
        self._check_contrastive()

    def _make_loaders(self) -> dict[str, Loader]:
        """A loader of each part; they share the budget."""
        sources = {name: part.source for name, part in self.parts.items()}
        most = dict.fromkeys(self.parts, self.recipe["pack_tiles"] or PACK_TILES[self.device.type])
        if self._joint:
            largest = Draw(self.recipe["tiles_per_epoch"]).length(max(sources["train"].lengths))
            most["train"] = max(most["train"], (self.recipe["batch_size"] + 1) * largest)
        budgets = share_budget(int(self.recipe["memory_gb"] * GIGABYTE), sources, max(most.values()))
        widen = self.device.type == "cpu" and self.recipe["precision"] == "fp32"
        return {
            name: Loader(part.source, budgets[name], most[name], part.covariates, widen)
            for name, part in self.parts.items()
        }

    def _check_contrastive(self) -> None:
        if self.recipe["contrastive_weight"] and not isinstance(self.task, Classification | Multiclass):
            what = f"contrastive training needs classes, which task {self.task.name} has not"
            raise StudyError(what, "training.contrastive_weight", "set it to 0")

    def prepare(self) -> None:
        """What comes before the first epoch: the training part's moments, and of Cox its first risks."""
        if self.recipe["standardise"]:
            mean, deviation = feature_moments(self._loaders["train"].slides())
            self.model.standardiser.mean = mean.to(self.device)
            self.model.standardiser.deviation = deviation.to(self.device)
        covariates = self.parts["train"].covariates
        if covariates is not None:
            scaler = self.model.covariate_standardiser
            mean = covariates.nanmean(0)
            spread = (covariates - mean).square().nanmean(0).sqrt()
            scaler.mean = torch.nan_to_num(mean).to(self.device)
            scaler.deviation = torch.where(spread > 0, spread, 1.0).to(self.device)
        if self.average is not None:
            self.average.module.load_state_dict(self.model.state_dict())
        if isinstance(self.task, CoxSurvival):
            self.risks = self._outputs_of(self.model, "train")[:, 0].float()

    def weights(self) -> dict[str, torch.Tensor]:
        """The weights that are judged and kept, on the CPU: the moving average's where there is one."""
        return {key: value.detach().cpu() for key, value in self._judged().state_dict().items()}

    def _judged(self) -> nn.Module:
        return self.model if self.average is None else self.average.module

    def state(self) -> dict[str, Any]:
        """All that the next epoch depends on; draws depend on its number alone."""
        return {
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "risks": self.risks,
            "step": self._step,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes back to a state."""
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.risks, self._step = state["risks"], state["step"]

    def train_epoch(self, epoch: int) -> float:
        """One pass over the training part; returns its mean loss.

        Raises:
            Diverged: A loss or a gradient is not finite.
        """
        self.model.train()
        torch.manual_seed(seed_of(DROPOUT, self.seed, epoch))
        targets = self.parts["train"].targets
        order = torch.randperm(len(targets), generator=generator_of(ORDER, self.seed, epoch))
        batches = list(order.split(self.recipe["batch_size"]))
        if self._normalised and len(batches) > 1 and len(batches[-1]) == 1:
            # One slide has no batch statistics.
            batches[-2:] = [torch.cat(batches[-2:])]
        draw = Draw(self.recipe["tiles_per_epoch"], self.seed, epoch)
        counts = label_counts(self.task, targets.mask)
        number, total = 0, 0.0
        self.optimiser.zero_grad(set_to_none=True)
        for pack in self._loaders["train"].packs([b.tolist() for b in batches], draw):
            batch = batches[number]
            loss, share = self._pack_loss(pack, float(counts[batch].sum()), len(batch))
            if not math.isfinite(float(loss.detach())):
                raise Diverged(f"a training loss is {float(loss.detach())}")
            loss.backward()
            total += share
            if pack.closes:
                number += 1
                self._make_step(len(batches))
        return total / float(counts.sum())

    def _make_step(self, per_epoch: int) -> None:
        """Sets the learning rate, and updates weights and their average."""
        warmup, steps = self.recipe["warmup_epochs"] * per_epoch, self.recipe["epochs"] * per_epoch
        self.learning_rate = self.recipe["learning_rate"] * rate_factor(
            self.recipe["schedule"], self._step, steps, warmup
        )
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate
        if not clip_and_step(self.model, self.optimiser, self.recipe["gradient_clip"]):
            raise Diverged("a gradient is not finite")
        self.optimiser.zero_grad(set_to_none=True)
        self._step += 1
        if self.average is not None:
            self.average.update_parameters(self.model)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe["precision"] == "bf16")

    def _pack_loss(self, pack: Pack, count: float, slides: int) -> tuple[torch.Tensor, float]:
        """A pack's share of its batch's loss.

        Args:
            pack: The pack.
            count: Labels of the batch.
            slides: Slides of the batch.

        Returns:
            What is differentiated, and the pack's loss summed over its labels, for the history.
        """
        targets = self.parts["train"].targets
        values, mask = targets.values[pack.rows].to(self.device), targets.mask[pack.rows].to(self.device)
        with self._autocast():
            output = self.model(pack.bags.to(self.device))
        if isinstance(self.task, CoxSurvival):
            loss, summed = self._cox(output, pack.rows, slides)
        else:
            whole = self._summed(output, values, mask)
            loss, summed = whole / count, float(whole.detach())
        return loss + self._extra(output, values, mask, len(pack.rows) / slides), summed

    def _summed(self, output: MilOutput, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The losses of slides, summed; of models with several objectives those of all, rows of a slide averaged."""
        if output.objectives is None:
            return slide_losses(self.task, output.slide, values, mask, self.class_weights).sum()
        total = output.slide.new_zeros(())
        for outputs, of in output.objectives:
            each = slide_losses(self.task, outputs, values[of], mask[of], self.class_weights)
            total = total + (each / torch.bincount(of, minlength=len(values))[of]).sum()
        return total

    def _cox(self, output: MilOutput, rows: torch.Tensor, slides: int) -> tuple[torch.Tensor, float]:
        """Cox's loss with the risk sets of the whole training part.

        The risks of slides in other packs are their latest, without gradient: the gradients of all packs at the same
        weights add up to that of the whole part. It is scaled as if each batch stood for the part.
        """
        # On the CPU: a few numbers, and the sums along time repeat byte for byte there.
        risk = output.slide[:, 0].float().cpu()
        targets = self.parts["train"].targets
        latest = self.risks.index_copy(0, rows, risk)
        known = targets.mask.all(1)
        time, event = targets.values[known].T
        loss = cox_loss(latest[known], time, event)
        self.risks[rows] = risk.detach()
        return loss.to(self.device) * (len(self.risks) / slides), float(loss.detach()) * float(known[rows].sum())

    def _extra(self, output: MilOutput, values: torch.Tensor, mask: torch.Tensor, share: float) -> torch.Tensor:
        """What is added to the task's loss: the model's own loss on tiles, and the contrastive one."""
        total = output.slide.new_zeros((), dtype=torch.float32)
        if not isinstance(self.task, Classification | Multiclass):
            return total
        classes = torch.where(mask[:, 0], values[:, 0].long(), -1)
        of_tiles = self.model.instance_loss(output, classes)
        if of_tiles is not None:
            total = total + of_tiles * share
        weight = self.recipe["contrastive_weight"]
        if weight:
            if output.pooled is None:
                what = "the aggregator has no pooled vectors, which contrastive training needs"
                raise StudyError(what, "training.contrastive_weight", "set it to 0, or use gated-abmil")
            known = classes >= 0
            total = total + weight * contrastive_loss(
                output.pooled[known], classes[known], self.recipe["contrastive_temperature"]
            )
        return total

    def outputs(self) -> torch.Tensor:
        """Raw outputs of the validation part, of all tiles, (n, n_outputs)."""
        return self._outputs_of(self._judged(), "validation")

    @torch.no_grad()
    def _outputs_of(self, model: nn.Module, part: str) -> torch.Tensor:
        model.eval()
        found = []
        for pack in self._loaders[part].packs([range(len(self.parts[part].targets))]):
            with self._autocast():
                found.append(model(pack.bags.to(self.device)).slide.float().cpu())
        return torch.cat(found)

    def judge(self, raw: torch.Tensor) -> tuple[float, float]:
        """Loss and score of the validation part's raw outputs; the score is minus the loss where it is undefined.

        Raises:
            Diverged: The loss is not finite.
        """
        targets = self.parts["validation"].targets
        loss = float(part_loss(self.task, raw, targets, self.class_weights))
        if not math.isfinite(loss):
            raise Diverged(f"the validation loss is {loss}")
        score = self.task.score(raw.double().numpy(), targets)
        return loss, score if math.isfinite(score) else -loss
