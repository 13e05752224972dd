# Cox models by R's survival package, as numbers that the tests hold ours against.
#   Rscript cox.R FOLDER_OF_LIFELINES_DATASETS > cox.tsv
suppressPackageStartupMessages(library(survival))
folder <- commandArgs(trailingOnly = TRUE)[1]
read <- function(name) read.csv(file.path(folder, paste0(name, ".csv")))

tell <- function(model, term, statistic, value) {
  cat(model, term, statistic, sprintf("%.15g", value), sep = "\t")
  cat("\n")
}

describe <- function(model, fit) {
  s <- summary(fit)
  table <- s$coefficients
  se <- if ("robust se" %in% colnames(table)) "robust se" else "se(coef)"
  for (term in rownames(table)) {
    tell(model, term, "coef", table[term, "coef"])
    tell(model, term, "se", table[term, se])
    tell(model, term, "z", table[term, "z"])
    tell(model, term, "p", table[term, "Pr(>|z|)"])
    tell(model, term, "ci_low", s$conf.int[term, "lower .95"])
    tell(model, term, "ci_high", s$conf.int[term, "upper .95"])
  }
  tell(model, "", "loglik_null", fit$loglik[1])
  tell(model, "", "loglik", fit$loglik[2])
  tell(model, "", "lr", 2 * diff(fit$loglik))
  tell(model, "", "n", fit$n)
  tell(model, "", "n_events", fit$nevent)
  tell(model, "", "concordance", s$concordance[["C"]])
  zph <- cox.zph(fit, transform = "km")$table
  for (term in rownames(zph)) {
    tell(model, term, "zph", zph[term, "chisq"])
    tell(model, term, "zph_df", zph[term, "df"])
    tell(model, term, "zph_p", zph[term, "p"])
  }
}

exact <- coxph.control(eps = 1e-14, toler.chol = 1e-15, iter.max = 100)
rossi <- read("rossi")
gbsg2 <- read("gbsg2")
lung <- read("lung")
cat("model\tterm\tstatistic\tvalue\n")
describe("rossi", coxph(Surv(week, arrest) ~ fin + age + race + wexp + mar + paro + prio, rossi, control = exact))
describe("rossi-alone", coxph(Surv(week, arrest) ~ prio, rossi, control = exact))
describe("gbsg2", coxph(Surv(time, cens) ~ horTh + age + relevel(factor(tgrade), ref = "II"), gbsg2, control = exact))
describe("gbsg2-strata", coxph(Surv(time, cens) ~ age + pnodes + strata(tgrade), gbsg2, control = exact))
describe("lung", coxph(Surv(time, status) ~ age + sex + ph.ecog, lung, control = exact))
known <- lung[!is.na(lung$inst), ]
describe("lung-cluster", coxph(Surv(time, status) ~ age + sex, known, cluster = inst, control = exact))
both <- known[!is.na(known$ph.ecog), ]
describe("lung-both", coxph(Surv(time, status) ~ age + strata(ph.ecog), both, cluster = inst, control = exact))
