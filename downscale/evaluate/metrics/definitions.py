"""What each metric is: formula, unit, range, perfect value, source. docs/reference/metrics.md says how to read them."""

from __future__ import annotations

from dataclasses import dataclass, replace

VARIABLE = "the variable's"
"""A unit that is that of the variable."""
SQUARED = "the variable's, squared"
CHANGE = "the variable's, % for precipitation"
PER_DEGREE = "that of the change signal, per K"
ANY, POSITIVE, SHARE, SIGNED = "(-inf, inf)", "[0, inf)", "[0, 1]", "[-1, 1]"
WILKS = "Wilks 2011"
VALUE = "Maraun et al. 2015, doi 10.1002/2014EF000259"
ETCCDI = "Zhang et al. 2011, doi 10.1002/wcc.147"
COMPOUND = "Zscheischler and Seneviratne 2017, doi 10.1126/sciadv.1700263"


@dataclass(frozen=True)
class Entry:
    """A metric in words.

    Attributes:
        name: as in scores.csv.
        formula: p the prediction, r the reference.
        unit: of the value; VARIABLE, SQUARED, CHANGE and PER_DEGREE depend on the variable.
        range: of its values.
        perfect: the value of a perfect prediction; None for a description.
        source: paper or standard.
        streams: whether blocks of days, each seen once, give the same value; else the whole series of a cell is needed.
    """

    name: str
    formula: str
    unit: str
    range: str
    perfect: float | None
    source: str
    streams: bool = True

    def of(self, name: str) -> Entry:
        """The entry of one of its names: itself, NAME_bias, abs_NAME_bias, abs_NAME."""
        if name == self.name:
            return self
        inner = f"{self.name}(p) - {self.name}(r)" if self.perfect is None else self.formula
        bounds, formula = (POSITIVE, f"|{inner}|") if name.startswith("abs_") else (ANY, inner)
        return replace(self, name=name, formula=formula, range=bounds, perfect=0.0)


def _all(*entries: Entry) -> dict[str, Entry]:
    return {entry.name: entry for entry in entries}


POINT = _all(
    Entry("bias", "mean_t(p - r)", VARIABLE, ANY, 0.0, VALUE),
    Entry("relative_bias", "100 mean_t(p - r) / mean_t(r), precipitation only", "%", ANY, 0.0, VALUE),
    Entry("mse", "mean_t (p - r)^2", SQUARED, POSITIVE, 0.0, WILKS),
    Entry("rmse", "sqrt(mean_t (p - r)^2)", VARIABLE, POSITIVE, 0.0, WILKS),
    Entry("mae", "mean_t |p - r|", VARIABLE, POSITIVE, 0.0, WILKS),
    Entry("correlation", "Pearson correlation over days", "1", SIGNED, 1.0, WILKS),
    Entry("correlation_deseasonalised", "correlation of anomalies from each series' own cycle", "1", SIGNED, 1.0, "this tool", False),
    Entry("spatial_correlation", "mean over days of the correlation over cells, weighted with area", "1", SIGNED, 1.0, WILKS),
    Entry("std_ratio", "sd_t(p) / sd_t(r)", "1", POSITIVE, 1.0, VALUE),
    Entry("w1", "mean_q |F_p^-1(q) - F_r^-1(q)|", VARIABLE, POSITIVE, 0.0, "Panaretos and Zemel 2019", False),
    Entry("mean", "mean_t(p)", VARIABLE, ANY, None, WILKS),
    Entry("std", "sd_t(p)", VARIABLE, POSITIVE, None, WILKS),
)
INDICES = _all(
    *(
        Entry(name, f"quantile {q} over days", VARIABLE, ANY, None, "Hyndman and Fan 1996, type 7", False)
        for name, q in (("p02", "0.02"), ("p50", "0.5"), ("p98", "0.98"), ("p99", "0.99"), ("p99_5", "0.995"))
    ),
    Entry("wet_day_frequency", "share of days with at least the wet-day threshold", "1", SHARE, None, ETCCDI),
    Entry("dry_days", "mean over years of the number of days below the threshold", "days", POSITIVE, None, ETCCDI),
    Entry("sdii", "mean of wet days, all years pooled", VARIABLE, POSITIVE, None, ETCCDI),
    Entry("rx1day", "mean over years of the highest day", VARIABLE, POSITIVE, None, ETCCDI),
    Entry("cdd", "mean over years of the longest run of dry days", "days", POSITIVE, None, ETCCDI),
    Entry("cwd", "mean over years of the longest run of wet days", "days", POSITIVE, None, ETCCDI),
    Entry("txx", "mean over years of the highest tasmax", VARIABLE, ANY, None, ETCCDI),
    Entry("txn", "mean over years of the lowest tasmax", VARIABLE, ANY, None, ETCCDI),
    Entry("tnx", "mean over years of the highest tasmin", VARIABLE, ANY, None, ETCCDI),
    Entry("tnn", "mean over years of the lowest tasmin", VARIABLE, ANY, None, ETCCDI),
    Entry("su", "mean over years of the number of days with tasmax above 298.15 K", "days", POSITIVE, None, ETCCDI),
    Entry("lag1", "correlation of a day with the day before", "1", SIGNED, None, WILKS),
    Entry("interannual_std", "sd (n - 1) of yearly means inside each test period", VARIABLE, POSITIVE, None, WILKS),
    Entry("interannual_std_ratio", "interannual_std(p) / interannual_std(r)", "1", POSITIVE, 1.0, WILKS),
)
JOINT = _all(
    Entry("temperature_correlation", "correlation over days of temperature and precipitation", "1", SIGNED, None, WILKS),
    Entry("hot_wet_days", "share of days with both above their own 90th percentile", "1", SHARE, None, COMPOUND, False),
    Entry("hot_dry_days", "share of dry days with temperature above its own 90th percentile", "1", SHARE, None, COMPOUND, False),
)
SPECTRAL = _all(
    Entry(
        "log_spectral_distance", "sqrt(mean_k (10 log10 P_p / P_r)^2)", "dB", POSITIVE, 0.0, "Harris et al. 2022, doi 10.1029/2022MS003120"
    ),
    Entry("effective_resolution", "wavelength at which P_p / P_r first falls below 1/2", "km", POSITIVE, None, "this tool"),
)
SKILL = _all(
    *(
        Entry(f"skill_vs_{model}", "1 - MSE(p) / MSE(baseline), area means", "1", "(-inf, 1]", 1.0, WILKS)
        for model in ("ridge", "bilinear", "climatology", "kernel_ridge")
    )
)
CHANGES = _all(
    *(
        entry
        for s in ("mean", "p99")
        for entry in (
            Entry(f"change_{s}", "<D(p)>, D = S(last period) - S(first period)", CHANGE, ANY, None, VALUE, s == "mean"),
            Entry(f"change_{s}_reference", "<D(r)>", CHANGE, ANY, None, VALUE, s == "mean"),
            Entry(f"change_{s}_bias", "<D(p) - D(r)>", CHANGE, ANY, 0.0, VALUE, s == "mean"),
            Entry(f"change_{s}_rmse", "sqrt(<(D(p) - D(r))^2>)", CHANGE, POSITIVE, 0.0, VALUE, s == "mean"),
            Entry(f"change_{s}_pattern_correlation", "correlation over cells of D(p) and D(r)", "1", SIGNED, 1.0, VALUE, s == "mean"),
            Entry(f"change_{s}_captured", "<D(p)> / <D(r)>", "1", ANY, 1.0, "this tool", s == "mean"),
            Entry(f"change_{s}_slope", "slope of D(p) on D(r) over cells", "1", ANY, 1.0, "this tool", s == "mean"),
            Entry(f"change_{s}_scaling", "<D(p)> / regional warming of the driving run", PER_DEGREE, ANY, None, "this tool", s == "mean"),
            Entry(f"change_{s}_scaling_reference", "<D(r)> / the same warming", PER_DEGREE, ANY, None, "this tool", s == "mean"),
            Entry(f"change_{s}_scaling_bias", "the difference of the two", PER_DEGREE, ANY, 0.0, "this tool", s == "mean"),
        )
    )
)
ENTRIES: dict[str, Entry] = {**POINT, **INDICES, **JOINT, **SPECTRAL, **SKILL, **CHANGES}


def find(name: str) -> Entry | None:
    """What is known of a metric by any of its names (``abs_p99_bias`` is of ``p99``); None for an unknown one."""
    for stem in (name, name.removeprefix("abs_"), name.removeprefix("abs_").removesuffix("_bias")):
        if stem in ENTRIES:
            return ENTRIES[stem].of(name)
    return None
