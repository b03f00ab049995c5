"""The form of ``report.json``, key by key; `docs/report.md` explains each."""

from typing import Any, NotRequired, TypedDict


class Request(TypedDict):
    """What was asked for: options of the recipe's section [hardware] and of the command line."""

    device: str
    clock_mhz: float
    initiation_interval: int | None
    frame_rate: float | None
    fit: bool
    images: int | None
    seed: int | None
    seeds: int


class Data(TypedDict):
    """The data set."""

    name: str
    provenance: str
    classes: list[str]
    pixel_maximum: int


class Training(TypedDict):
    """Where the network comes from, with its epochs where it was trained in this build."""

    source: str
    metadata: dict[str, Any]
    history: list[dict[str, float]]


class Accuracy(TypedDict):
    """Fractions of the test images classified right."""

    model: float
    golden: float
    images: int


class Comparison(TypedDict):
    """Golden model against PyTorch model, computed in `arithmetic` (float32 or float64)."""

    images: int
    mismatches: int
    arithmetic: NotRequired[str]


class Cycles(TypedDict):
    """Clock cycles."""

    min: float
    mean: float
    max: float


class CycleCounts(TypedDict):
    """Both cycle counts of a design."""

    initiation_interval: Cycles
    latency: Cycles


class Estimate(TypedDict):
    """Cells that a layer is expected to take."""

    luts: int
    block_rams: int
    dsps: int


class Layer(TypedDict):
    """One engine of the accelerator."""

    name: str
    op: str
    activation: str | None
    shape_in: list[int]
    shape_out: list[int]
    format_in: str
    format_out: str
    weights_shape: list[int] | None
    weight_format: str | None
    weight_bits: int
    storage: NotRequired[str | None]
    stored_weight_bits: NotRequired[int]
    parameter_bits: int
    simd: int
    pe: int
    multiplier: NotRequired[str | None]
    cycles: int
    estimate: Estimate
    reads: NotRequired[list[str]]
    fifo_words: NotRequired[list[int]]


class Run(TypedDict):
    """One simulation of the RTL against the golden model."""

    back_pressure: str
    images: int
    words: int
    mismatches: int
    initiation_interval: Cycles | None
    latency: Cycles | None
    cycles: int
    cycles_per_second: float
    seconds: float
    seed: int
    malformed_frames: NotRequired[bool]


class Rtl(TypedDict):
    """The RTL against the golden model."""

    images: int
    words: int
    mismatches: int
    initiation_interval: Cycles | None
    latency: Cycles | None
    cycles_per_second: float
    runs: list[Run]


class Netlist(TypedDict):
    """The synthesized netlist against the golden model."""

    device: str
    images: int
    words: int
    mismatches: int
    cycles: int
    cycles_per_second: float


class PathSegment(TypedDict):
    """One step of the critical path."""

    kind: str
    delay_ns: float
    start: str
    end: str
    net: str | None


class Seed(TypedDict):
    """Place and route with one seed."""

    seed: int
    fmax_mhz: float | None
    seconds: float
    reason: str | None


class Capacity(TypedDict):
    """What a device offers."""

    luts: int
    ffs: int
    block_rams: int
    dsps: int


class Synthesis(TypedDict):
    """Area and timing on one device."""

    device: str
    lut4: NotRequired[int]
    lut6: NotRequired[int]
    carry: int
    ff: int
    lutram: int
    bram: float
    dsp: int
    comb: int | None
    capacity: Capacity
    clock_mhz: float
    fmax_mhz: float | None
    timing_met: bool | None
    limited_by: str | None
    critical_path: list[PathSegment] | None
    by_module: dict[str, dict[str, float]]
    shell: dict[str, float] | None
    absorption: dict[str, Any] | None
    seeds: list[Seed]
    seconds: dict[str, float]
    versions: dict[str, str]


class Size(TypedDict):
    """Bytes of the parameters."""

    float_bytes: int
    stored_bytes: int


class FramesPerSecond(TypedDict):
    """Clock divided by initiation interval."""

    interval: str
    asked_clock: float
    reached_clock: float | None
    device: str


class Report(TypedDict):
    """All figures of a build; the key of a stage that was not done is absent."""

    recipe: str
    description: str
    command: str
    request: Request
    data: Data
    training: Training
    accuracy: Accuracy
    confusion: list[list[int]]
    golden_vs_model: Comparison
    size: Size
    layers: list[Layer]
    predicted: CycleCounts
    rtl: NotRequired[Rtl]
    synthesis: NotRequired[dict[str, Synthesis]]
    netlist: NotRequired[Netlist]
    frames_per_second: FramesPerSecond
    seconds: dict[str, float]
    versions: dict[str, str]
    missing: dict[str, str]
