"""Can a classifier tell one run's coarse days from another's? What a network can see, a classifier can see.

Daily maps of all predictors, standardised cell by cell over both sides together, become their leading principal components; a logistic
regression, and in the main season gradient boosted trees, are trained on some years and judged on the others. The area under the ROC
curve (AUC) is the chance that a day of the one run gets the higher score than a day of the other: 0.5 nobody can tell them apart, 1
always. The proxy A-distance is d_A = 2 (1 - 2 error), 0 to 2 (Ben-David et al. 2010, doi 10.1007/s10994-009-5152-4).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from downscale.cf.calendar import month
from downscale.evaluate.context import Context
from downscale.evaluate.selection import ALL_PERIODS, TimeTable
from downscale.evaluate.transfer.predictor_pairs import compared_pairs
from downscale.pairs.store import PairGroup

TABLE = "separability"
COLUMNS = (
    "case",
    "against",
    "season",
    "classifier",
    "auc",
    "lower",
    "upper",
    "error",
    "d_a",
    "n_components",
    "n_days",
    "n_years",
    "note",
    "auc_anomalies",
)
CLASSIFIERS = ("logistic", "boosting")
FOLDS, MIN_FOLDS, MIN_YEARS, MIN_DAYS = 5, 3, 2, 20
DAYS_PER_COMPONENT = 10
TREES = 40
SEED = 0
SIDE_BYTES = 64 * 2**20
READ_DAYS = 256
TINY = 1e-9


def diagnose(context: Context) -> None:
    """Add separability.csv: every pair of the predictor-shift table."""
    options = context.options["separability"]
    context.extend(TABLE, COLUMNS, [])
    for one, other in compared_pairs(context):
        sides = [Side.read(context, *side, max_days=options["max_days"], years=years) for side, years in _common_years(context, one, other)]
        for row in separability(sides[0], sides[1], components=options["components"]):
            context.extend(TABLE, COLUMNS, [{"case": sides[0].name, "against": sides[1].name, **row}])


@dataclass(frozen=True, eq=False)
class Side:
    """Predictors of one run.

    Attributes:
        name: GROUP/KIND.
        values: (day, feature) float32; NaN missing.
        table: the days.
    """

    name: str
    values: np.ndarray
    table: TimeTable

    @classmethod
    def read(cls, context: Context, group: PairGroup, kind: str, *, max_days: int, years: np.ndarray) -> Side:
        """At most ``max_days`` days of some years, evenly spaced, and no more than 64 MiB of them."""
        index = np.flatnonzero(np.isin(context.table(group, np.arange(len(group.days))).year, years))
        day_bytes = 4 * len(context.store.channels) * int(np.prod(context.store.coarse.shape))
        wanted = min(max_days, max(SIDE_BYTES // day_bytes, MIN_DAYS), len(index))
        index = index[np.unique(np.linspace(0, len(index) - 1, wanted).astype(np.int64))] if len(index) else index
        parts = [group.predictors(kind, index[start : start + READ_DAYS]) for start in range(0, len(index), READ_DAYS)]
        fields = np.concatenate(parts) if parts else group.predictors(kind, index)
        return cls(f"{group.name}/{kind}", fields.reshape(len(index), -1), context.table(group, index))


def _common_years(
    context: Context, one: tuple[PairGroup, str], other: tuple[PairGroup, str]
) -> Iterator[tuple[tuple[PairGroup, str], np.ndarray]]:
    """Both sides with the years to take: those that both have, else all: two periods of one climate differ in their warming."""
    years = [np.unique(context.table(group, np.arange(len(group.days))).year) for group, _ in (one, other)]
    common = np.intersect1d(years[0], years[1])
    for side, own in zip((one, other), years, strict=True):
        yield side, common if len(common) >= MIN_YEARS else own


def separability(one: Side, other: Side, *, components: int) -> list[dict[str, Any]]:
    """A row per season and classifier; NaN with the reason where years or days are too few."""
    theirs = {selection.season: selection for selection in other.table.selections if selection.period == ALL_PERIODS}
    seasons = [selection for selection in one.table.selections if selection.period == ALL_PERIODS and selection.season in theirs]
    rows = []
    for number, selection in enumerate(seasons):
        wanted = min(len(selection.rows), len(theirs[selection.season].rows))
        ours, others = _thinned(selection.rows, wanted), _thinned(theirs[selection.season].rows, wanted)
        values = np.concatenate([one.values[ours], other.values[others]])
        label = np.repeat([1, 0], wanted)
        year = np.concatenate([one.table.year[ours], other.table.year[others]])
        months = np.concatenate([month(one.table.days[ours]), month(other.table.days[others])])
        features, whole = _features(values, components)
        days = Days(features, label[whole], year[whole], months[whole])
        for classifier in CLASSIFIERS if number == 0 else CLASSIFIERS[:1]:
            anomalies = judge(days, classifier, aligned=True)["auc"] if number == 0 else float("nan")
            rows.append({"season": selection.season, "classifier": classifier, **judge(days, classifier), "auc_anomalies": anomalies})
    return rows


@dataclass(frozen=True, eq=False)
class Days:
    """Days of both sides together.

    Attributes:
        features: (day, component).
        label: (day,) 1 for the one side, 0 for the other.
        year, month: (day,).
    """

    features: np.ndarray
    label: np.ndarray
    year: np.ndarray
    month: np.ndarray

    def aligned(self, known: np.ndarray) -> np.ndarray:
        """Features minus the mean of their side and month over the known days: the means agree, all else may still differ."""
        result = self.features.copy()
        for side in (0, 1):
            for one in np.unique(self.month):
                inside = (self.label == side) & (self.month == one)
                if (inside & known).any():
                    result[inside] -= self.features[inside & known].mean(axis=0)
        return result


def _thinned(rows: np.ndarray, wanted: int) -> np.ndarray:
    """So many of the rows, evenly spaced: both sides are to have as many days."""
    return rows[np.linspace(0, len(rows) - 1, wanted).astype(np.int64)]


def _features(values: np.ndarray, components: int) -> tuple[np.ndarray, np.ndarray]:
    """Leading principal components (day, component) of unit variance, and (all days,) True for the days that are left."""
    from sklearn.decomposition import PCA

    finite = np.isfinite(values)
    kept = finite.mean(axis=0) > 0.99
    whole = finite[:, kept].all(axis=1) if kept.any() else np.zeros(len(values), bool)
    values = values[whole][:, kept]
    if len(values) >= MIN_DAYS:
        mean, spread = values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64)
        varies = spread > TINY * np.abs(values).max(axis=0)
        values = ((values[:, varies] - mean[varies]) / spread[varies]).astype(np.float32)
    number = min(components, values.shape[1], len(values) // DAYS_PER_COMPONENT)
    if len(values) < MIN_DAYS or number < 1:
        return np.empty((len(values), 0)), whole
    return np.asarray(PCA(number, whiten=True, svd_solver="randomized", random_state=SEED).fit_transform(values)), whole


def judge(days: Days, classifier: str, *, aligned: bool = False) -> dict[str, Any]:
    """AUC and error of days whose year the classifier has not seen.

    Args:
        days: of both sides.
        classifier: "logistic" or "boosting".
        aligned: take out the monthly means of each side, as the training years have them.
    """
    nan, years, label = float("nan"), np.unique(days.year), days.label
    sizes = {"n_components": days.features.shape[1], "n_days": len(label), "n_years": len(years)}
    nothing = {"auc": nan, "lower": nan, "upper": nan, "error": nan, "d_a": nan, **sizes}
    if len(years) < MIN_YEARS:
        return {**nothing, "note": f"{len(years)} year(s): none is left to judge by"}
    if not days.features.shape[1] or min(label.sum(), (1 - label).sum()) < MIN_DAYS:
        return {**nothing, "note": f"fewer than {MIN_DAYS} whole days on a side, or no predictor that varies"}
    fold = np.searchsorted(years, days.year) % min(FOLDS, len(years))
    score = np.full(len(label), nan)
    for number in np.unique(fold):
        inside = fold == number
        if len(np.unique(label[~inside])) == 2:
            features = days.aligned(~inside) if aligned else days.features
            score[inside] = _probability(features[~inside], label[~inside], features[inside], classifier)
    if not np.isfinite(score).any():
        return {**nothing, "note": "the two have no years in common to learn from"}
    return {**auc_of_folds(score, label, fold), **_error(score, label), **sizes, "note": ""}


def _probability(features: np.ndarray, label: np.ndarray, new: np.ndarray, classifier: str) -> np.ndarray:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression

    model: Any
    if classifier == "logistic":
        model = LogisticRegression(max_iter=300)
    else:
        model = HistGradientBoostingClassifier(max_iter=TREES, max_leaf_nodes=8, max_bins=64, early_stopping=False, random_state=SEED)
    return np.asarray(model.fit(features, label).predict_proba(new)[:, 1])


def _error(score: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Share of days on the wrong side, both runs counting the same, and the proxy A-distance (0 where guessing does better)."""
    known = np.isfinite(score)
    wrong = (score > 0.5) != (label == 1)
    error = 0.5 * sum(float(wrong[known & (label == side)].mean()) for side in (0, 1))
    return {"error": error, "d_a": max(2.0 * (1.0 - 2.0 * error), 0.0)}


def auc_of_folds(score: np.ndarray, label: np.ndarray, fold: np.ndarray) -> dict[str, float]:
    """Mean over folds of the AUC among their days, and its 95 % interval.

    Folds share training years, so the variance of their mean is (1/k + 1/(k - 1)) times that among the k folds, and the interval is
    Student's t with k - 1 degrees of freedom (Nadeau and Bengio 2003, doi 10.1023/A:1024068626366). NaN bounds below three folds.

    Args:
        score: (day,) higher for the side labelled 1; NaN where no classifier could be trained.
        label: (day,) 1 or 0.
        fold: (day,).
    """
    found = [_auc(score[inside], label[inside]) for number in np.unique(fold) if (inside := (fold == number) & np.isfinite(score)).any()]
    areas = np.array([value for value in found if np.isfinite(value)])
    mean, k = float(areas.mean()) if len(areas) else float("nan"), len(areas)
    if k < MIN_FOLDS:
        return {"auc": mean, "lower": float("nan"), "upper": float("nan")}
    half = float(stats.t.ppf(0.975, k - 1)) * float(np.sqrt((1 / k + 1 / (k - 1)) * areas.var(ddof=1)))
    return {"auc": mean, "lower": max(mean - half, 0.0), "upper": min(mean + half, 1.0)}


def _auc(score: np.ndarray, label: np.ndarray) -> float:
    """Share of pairs of days, one of each side, that are in the right order; a tie is half a one (Mann and Whitney 1947)."""
    ours, theirs = score[label == 1], np.sort(score[label == 0])
    if not len(ours) or not len(theirs):
        return float("nan")
    below = np.searchsorted(theirs, ours, "left") + np.searchsorted(theirs, ours, "right")
    return 0.5 * float(below.sum()) / (len(ours) * len(theirs))
