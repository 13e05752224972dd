# Reference values of R's package `survival` for tests/validation/test_survival_against_r.py.
#
# Rscript kaplan_meier.R FOLDER > kaplan_meier.tsv
# FOLDER holds rossi.csv, gbsg2.csv and lung.csv, as lifelines ships them (lifelines/datasets).
#
# Columns: data analysis group item at value. `group` is the label that R gives, blank without groups; `at` a time.

suppressPackageStartupMessages(library(survival))

folder <- commandArgs(trailingOnly = TRUE)[1]
read <- function(name) read.csv(file.path(folder, name), check.names = FALSE)
rows <- list()
note <- function(data, analysis, item, value, group = "", at = "") {
  value <- ifelse(is.na(value), "", sprintf("%.15g", value))
  rows[[length(rows) + 1]] <<- data.frame(data, analysis, group, item, at = as.character(at), value)
}

curves <- function(data, formula, table, times) {
  fit <- survfit(formula, data = table, conf.type = "log-log")
  found <- summary(fit, times = times)
  group <- if (is.null(found$strata)) rep("", length(found$time)) else as.character(found$strata)
  for (item in c("surv", "std.err", "lower", "upper", "n.risk")) {
    note(data, "survfit", item, found[[item]], group, found$time)
  }
  ends <- quantile(fit, probs = 0.5)
  names <- if (is.null(fit$strata)) "" else names(fit$strata)
  for (item in c("quantile", "lower", "upper")) note(data, "median", item, as.vector(ends[[item]]), names)
}

log_rank <- function(data, name, formula, table) {
  test <- survdiff(formula, data = table)
  # With strata, observed and expected are matrices with a column for each stratum.
  df <- sum(rowSums(as.matrix(test$exp)) > 0) - 1
  note(data, name, "chisq", test$chisq)
  note(data, name, "df", df)
  note(data, name, "p", pchisq(test$chisq, df, lower.tail = FALSE))
}

trend <- function(data, name, formula, table) {
  # The score test of the groups' numbers.
  score <- coxph(formula, data = table)$score
  note(data, name, "chisq", score)
  note(data, name, "p", pchisq(score, 1, lower.tail = FALSE))
}

ranking <- function(data, formula, table, until = NULL) {
  # The score is a risk: who has more of it should have the event sooner.
  plain <- concordance(formula, data = table, reverse = TRUE)
  note(data, "concordance", "harrell", plain$concordance)
  for (item in c("concordant", "discordant", "tied.x")) note(data, "concordance", item, plain$count[[item]])
  uno <- concordance(formula, data = table, reverse = TRUE, timewt = "n/G2")
  note(data, "concordance", "uno", uno$concordance)
  cut <- concordance(formula, data = table, reverse = TRUE, timewt = "n/G2", ymax = until)
  note(data, "concordance", "uno", cut$concordance, at = until)
}

lung <- read("lung.csv")
names(lung) <- gsub(".", "_", names(lung), fixed = TRUE)
# R's own copy says 2 of a death and 1 of a censored time, lifelines' 1 and 0.
if (max(lung$status) == 2) lung$status <- lung$status - 1
curves("lung", Surv(time, status) ~ 1, lung, c(0, 100, 310, 500, 883, 1000))
curves("lung", Surv(time, status) ~ sex, lung, c(5, 180, 365, 730))
log_rank("lung", "log-rank by sex", Surv(time, status) ~ sex, lung)
log_rank("lung", "log-rank by ph_ecog", Surv(time, status) ~ ph_ecog, lung)
log_rank("lung", "log-rank by sex within ph_ecog", Surv(time, status) ~ sex + strata(ph_ecog), lung)
log_rank("lung", "log-rank by ph_ecog within sex", Surv(time, status) ~ ph_ecog + strata(sex), lung)
trend("lung", "trend by ph_ecog", Surv(time, status) ~ ph_ecog, lung)
trend("lung", "trend by ph_ecog within sex", Surv(time, status) ~ ph_ecog + strata(sex), lung)
ranking("lung", Surv(time, status) ~ age, lung, 365)

gbsg2 <- read("gbsg2.csv")
curves("gbsg2", Surv(time, cens) ~ tgrade, gbsg2, c(0, 365, 1095, 1825, 2500))
curves("gbsg2", Surv(time, cens) ~ horTh, gbsg2, c(0, 1095, 1825))
log_rank("gbsg2", "log-rank by tgrade", Surv(time, cens) ~ tgrade, gbsg2)
log_rank("gbsg2", "log-rank by tgrade within menostat", Surv(time, cens) ~ tgrade + strata(menostat), gbsg2)
log_rank("gbsg2", "log-rank by horTh within tgrade", Surv(time, cens) ~ horTh + strata(tgrade), gbsg2)
gbsg2$grade <- as.integer(factor(gbsg2$tgrade, levels = c("I", "II", "III")))
trend("gbsg2", "trend by tgrade", Surv(time, cens) ~ grade, gbsg2)
trend("gbsg2", "trend by tgrade within menostat", Surv(time, cens) ~ grade + strata(menostat), gbsg2)
ranking("gbsg2", Surv(time, cens) ~ pnodes, gbsg2, 1095)

rossi <- read("rossi.csv")
curves("rossi", Surv(week, arrest) ~ fin, rossi, c(1, 10, 26, 52))
log_rank("rossi", "log-rank by fin", Surv(week, arrest) ~ fin, rossi)
log_rank("rossi", "log-rank by fin within wexp and mar", Surv(week, arrest) ~ fin + strata(wexp, mar), rossi)
ranking("rossi", Surv(week, arrest) ~ prio, rossi, 26)

write.table(do.call(rbind, rows), sep = "\t", quote = FALSE, row.names = FALSE)
