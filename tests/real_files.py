"""What is expected of every file under ../shared/data: how it opens, or why it is refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from downscale.variables import Channel


@dataclass(frozen=True)
class Opens:
    """A daily series: calendar, first and last day, days, rows and columns, lowest and highest value, missing share, words of its notes."""

    channel: Channel
    calendar: str
    first: int
    last: int
    shape: tuple[int, int, int]
    range: tuple[float, float]
    missing: float = 0.0
    says: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fixed:
    """A field without time: its name here, rows and columns, lowest and highest value."""

    name: str
    shape: tuple[int, int]
    range: tuple[float, float]


@dataclass(frozen=True)
class Refused:
    """A file that is no daily field: the message, and whether it takes reading to see it."""

    channel: Channel
    message: str
    says: tuple[str, ...] = ()
    when_read: bool = False


STAMPS = "no time bounds: each field belongs to the day of its time stamp"
WINTERS = "19 gaps, 5225 days: 1983-03-01 to 1983-11-30"
NO_CALENDAR = "time axis without calendar attribute: taken as standard"
FIRST = (NO_CALENDAR, STAMPS, "transposed from (level, time, lat, lon)")
TURNED = "2-D longitudes 19.4701..357.47 moved by whole turns to -24.5301..41.4702"
STRIDED = "lon 0.416667..333.75 reordered to -109.583..167.083"
FLIPPED = "lat is descending: flipped"
TAS, TASMAX, TASMIN, PR, PSL = (Channel(name) for name in ("tas", "tasmax", "tasmin", "pr", "psl"))
IBERIA = ("standard", 19821201, 20020228)
FLUX = "converted from 'kg m-2 s-1' to mm day-1"
PER_DAY = {"assume_units": {"pr": "mm/day"}}
ASSUMED = "units taken as 'mm/day', the files say 'mm' (assume_units)"
RACMO = "cordex_eur44_racmo_iberia/{}_EUR-44_ICHEC-EC-EARTH_historical_r1i1p1_KNMI-RACMO22E_v1_day_DJF_iberia.nc".format
CNRM = "gcm_cnrm_cm5_iberia/{}_day_CNRM-CM5_historical_r1i1p1_DJF_iberia.nc".format
NCEP = "ncep_eobs_iberia/predictors_dailymean/{}_NCEP-R1_day_DJF_iberia.nc".format
EOBS = "ncep_eobs_iberia/target/{}_EOBS-v14_0.50deg_DJF_iberia.nc".format
OWN = "ncep_eobs_iberia/predictors/NCEP_{}.nc".format
NAM22 = "cordex_files/pr_NAM-22_NOAA-GFDL-GFDL-ESM2M_rcp45_r1i1p1_OURANOS-CRCM5_v1_day_{}.nc".format
AFR22 = "cordex_files/tas_AFR-22_MPI-M-MPI-ESM-LR_historical_r1i1p1_GERICS-REMO2015_v1_day_{}.nc".format
WRF = "cordex_files/zg500_EUR-11_IPSL-IPSL-CM5A-MR_rcp85_r1i1p1_IPSL-WRF381P_v1_day_{}.nc".format
HADGEM3 = "gcm_files/tasmin_day_HadGEM3-GC31-MM_dcppA-hindcast_s1960-r2i1p1f2_gn_{}.nc".format
HADGEM2 = "gcm_files/{}_day_HadGEM2-CC_rcp85_r1i1p1_na10kgrid_qm-moving-50bins-detrend_2095.nc".format
OROGRAPHY = "cordex_files/orog_EUR-11_ECMWF-ERAINT_evaluation_r0i0p0_GERICS-REMO2015_v1_fx.nc"
RACMO_EUR11 = "cordex_files/tas_EUR-11_MPI-M-MPI-ESM-LR_rcp85_r1i1p1_KNMI-RACMO22E_v1_mon_209101.nc"
ANTARCTICA = "cordex_files/tas_ANT-44_ECMWF-ERAINT_evaluation_r1i1p1_DMI-HIRHAM5_v1_day_20060101.nc"
NAM44 = "cordex_files/tasmax_NAM-44_day_20410701-vncdfCF.nc"
DOURY = "cordex_files/X_EUC12_fullvar_smth3_aero_2000-01-01.nc"
MIROC6 = "gcm_files/tas_day_MIROC6_ssp119_r1i1p1f1_gn_20150101.nc"
KACE = "gcm_files/ta_day_KACE-1-0-G_historical_r1i1p1f1_gr_20000101-20141230.nc"

EXPECTED: dict[str, Opens | Fixed | Refused] = {
    RACMO("tas"): Opens(TAS, *IBERIA, (1805, 28, 30), (257.16, 295.643), says=(STAMPS, WINTERS, "converted from 'Celsius' to K")),
    RACMO("pr"): Opens(PR, *IBERIA, (1805, 28, 30), (0, 145.743), says=(STAMPS, WINTERS, ASSUMED), options=PER_DAY),
    CNRM("tas"): Opens(TAS, *IBERIA, (1805, 8, 11), (261.502, 295.296), says=(STAMPS, WINTERS)),
    CNRM("pr"): Opens(PR, *IBERIA, (1805, 8, 11), (0, 69.136), says=(STAMPS, WINTERS, FLUX)),
    CNRM("psl"): Opens(PSL, *IBERIA, (1805, 8, 11), (95913.9, 104760), says=(STAMPS, WINTERS)),
    CNRM("ta850"): Opens(Channel("ta", 850), *IBERIA, (1805, 8, 11), (257.11, 292.608), says=(STAMPS, WINTERS)),
    CNRM("hus850"): Opens(Channel("hus", 850), *IBERIA, (1805, 8, 11), (5.16427e-06, 0.00911013), says=(STAMPS, WINTERS)),
    NCEP("tas"): Opens(TAS, *IBERIA, (1805, 6, 8), (258.2, 294.825), says=(WINTERS, "converted from 'Celsius' to K")),
    NCEP("pr"): Opens(
        PR,
        *IBERIA,
        (1805, 6, 8),
        (0, 67.1328),
        says=(WINTERS, "converted from 'Kg/m^2/s' to mm day-1", "41372 negligible negative values set to 0"),
    ),
    NCEP("psl"): Opens(PSL, *IBERIA, (1805, 5, 7), (97400, 104282), says=(WINTERS,)),
    NCEP("ta850"): Opens(Channel("ta", 850), *IBERIA, (1805, 5, 7), (256.475, 290.828), says=(WINTERS,)),
    NCEP("hus850"): Opens(Channel("hus", 850), *IBERIA, (1805, 5, 7), (1.55137e-09, 0.0086375), says=(WINTERS,)),
    EOBS("tg"): Opens(
        TAS, *IBERIA, (1805, 19, 29), (256.28, 297.65), 0.4011, ("tas is tg", STAMPS, WINTERS, "converted from 'Celsius' to K")
    ),
    EOBS("rr"): Opens(PR, *IBERIA, (1805, 19, 29), (0, 115.7), 0.4062, ("pr is rr", STAMPS, WINTERS, ASSUMED), PER_DAY),
    OWN("T850"): Opens(
        Channel("ta", 850),
        "standard",
        19580101,
        20011231,
        (16071, 6, 9),
        (251.1, 305.9),
        says=("ta is T", *FIRST),
    ),
    OWN("Q850"): Opens(
        Channel("hus", 850), "standard", 19580101, 20011231, (16071, 6, 9), (1.55137e-09, 0.01545), says=("hus is Q", *FIRST)
    ),
    OWN("Z500"): Opens(
        Channel("zg", 500),
        "standard",
        19580101,
        20011231,
        (16071, 6, 9),
        (4970, 6021),
        says=("zg is Z", *FIRST, "converted from 'm**2 s**-2' to m"),
    ),
    OWN("SLPd"): Opens(
        PSL,
        "standard",
        19580101,
        20011231,
        (16071, 6, 9),
        (95851.2, 104476),
        says=("psl is SLPd, as the config says", NO_CALENDAR, STAMPS),
        options={"variables": {"psl": "SLPd"}},
    ),
    NAM22("20510101-20551231"): Opens(PR, "noleap", 20510101, 20551231, (1825, 3, 4), (0, 293.459), says=(FLUX,)),
    NAM22("20560101-20601231"): Opens(PR, "noleap", 20560101, 20601231, (1825, 3, 4), (0, 401.126), says=(FLUX,)),
    AFR22("19960101-20001231"): Opens(
        TAS,
        "standard",
        19960101,
        20001231,
        (1827, 5, 4),
        (259.208, 311.668),
        says=(TURNED,),
    ),
    AFR22("20010101-20051231"): Opens(TAS, "standard", 20010101, 20051231, (1826, 5, 4), (256.928, 312.201), says=(TURNED,)),
    WRF("20710101-20751231"): Opens(Channel("zg", 500), "standard", 20710101, 20751231, (1826, 5, 5), (4800.66, 6070.23)),
    WRF("20760101-20801231"): Opens(Channel("zg", 500), "standard", 20760101, 20801231, (1827, 5, 5), (4758.39, 6066.38)),
    ANTARCTICA: Opens(
        TAS,
        "standard",
        20060101,
        20060101,
        (1, 97, 125),
        (235.705, 278.455),
        says=("2-D longitudes -165.71..193.08 moved by whole turns to",),
    ),
    NAM44: Opens(TASMAX, "noleap", 20410701, 20410701, (1, 140, 148), (263.47, 313.286)),
    "cordex_files/test1.nc": Opens(TASMIN, "standard", 19500101, 19501231, (365, 10, 7), (249.287, 293.16)),
    DOURY: Opens(
        Channel("zg", 500),
        "standard",
        20000101,
        20000101,
        (1, 40, 100),
        (3299.66, 5863.01),
        0.4565,
        ("the level in the name zg500 is trusted, not its level coordinate, 850 hPa",),
    ),
    OROGRAPHY: Fixed("orog", (412, 424), (-395.9897, 3587.7124)),
    "cordex_files/HSURF_regional_model_0.44deg.nc": Fixed("orog", (221, 214), (-218.39969, 2684.0117)),
    "cordex_files/FR-LAND_regional_model_0.44deg.nc": Fixed("sftlf", (221, 214), (0.0, 100.0)),
    RACMO_EUR11: Refused(TAS, "the file is not daily: each step spans 31 days"),
    "cordex_files/test_lcc.nc": Refused(TAS, "the file is not daily: each step spans 30 days"),
    "cordex_files/alps1.nc": Refused(TAS, "the file is not daily"),
    "cordex_files/alps1_regular.nc": Refused(TAS, "the file is not daily"),
    "cordex_files/template_pr_ALPS.nc": Refused(PR, "units '' of pr cannot be converted", ("missing or empty", "assume_units")),
    "cordex_files/template_tasmax_ALPS.nc": Refused(
        TASMAX, "tasmax holds values from 1 to 1 K, plausible are 150 to 350", ("1961-01-01",), when_read=True
    ),
    MIROC6: Opens(
        TAS, "standard", 20150101, 20150101, (1, 128, 256), (230.151, 316.97), says=("lon 0..358.594 reordered to -180..178.594",)
    ),
    KACE: Opens(
        Channel("ta", 1000),
        "360_day",
        20000101,
        20141230,
        (5400, 2, 2),
        (228.733, 280.11),
        0.0167,
        ("360 values of the undeclared netCDF default fill value read as missing",),
    ),
    "gcm_files/ta_day_BCC-ESM1_historical_r1i1p1f1_gn_19900101-20091231.nc": Opens(
        Channel("ta", 1000), "noleap", 19900101, 20091231, (7300, 2, 2), (220.996, 276.198)
    ),
    "gcm_files/ta_day_IITM-ESM_historical_r1i1p1f1_gn_20000101-20041231.nc": Opens(
        Channel("ta", 1000), "julian", 20000101, 20041231, (1827, 2, 2), (192.559, 246.893)
    ),
    "gcm_files/ta_day_MPI-ESM1-2-LR_historical_r1i1p1f1_gn_19900101-20091231.nc": Opens(
        Channel("ta", 1000), "standard", 19900101, 20091231, (7305, 2, 2), (230.837, 279.956)
    ),
    HADGEM3("19601101-19601230"): Opens(TASMIN, "360_day", 19601101, 19601230, (60, 4, 5), (224.708, 300.272), says=(STRIDED,)),
    HADGEM3("19610101-19611230"): Opens(TASMIN, "360_day", 19610101, 19611230, (360, 4, 5), (194.732, 306.35), says=(STRIDED,)),
    "gcm_files/tiny_gcm_360_day_cal.nc": Opens(TASMIN, "360_day", 19650101, 19750101, (3601, 4, 4), (221.809, 277.471)),
    HADGEM2("tasmax"): Opens(TASMAX, "360_day", 20950101, 20951230, (360, 36, 36), (265.847, 323.936), 0.0015, (STAMPS, FLIPPED)),
    HADGEM2("pr"): Opens(
        PR, "360_day", 20950101, 20951230, (360, 36, 36), (0, 81.9294), 0.0015, (STAMPS, FLIPPED, "converted from 'mm s-1' to mm day-1")
    ),
    "gcm_files/pr_day_EC-Earth3-CC_ssp245_r1i1p1f1_gr_20230101-20231231_vncdfCF.nc": Opens(
        PR, "standard", 20230101, 20231231, (365, 14, 14), (0, 101.696), says=(FLUX, "17279 negligible negative values set to 0")
    ),
}
