"""Runs inside the simulator: drives and watches the AXI4-Stream ports of a design, one Python step a clock phase."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Any

import cocotb
import numpy as np
import numpy.typing as npt
from cocotb.handle import LogicArrayObject, LogicObject
from cocotb.triggers import Timer

from karui.sw.numerics import to_integers

JOB_VARIABLE = "KARUI_BENCH_JOB"
LOGGED_MISMATCHES = 16
REST = 64  # idle cycles before a frame that finds the pipeline empty


class TestbenchPorts:
    """Handles of the simulation top."""

    __test__ = False

    clk: LogicObject
    rst: LogicObject
    external: LogicObject
    s_axis_tdata: LogicArrayObject
    s_axis_tvalid: LogicObject
    s_axis_tready: LogicObject
    s_axis_tlast: LogicObject
    m_axis_tdata: LogicArrayObject
    m_axis_tvalid: LogicObject
    m_axis_tready: LogicObject
    m_axis_tlast: LogicObject
    m_axis_tuser: LogicObject


@dataclass(frozen=True, kw_only=True)
class BenchJob:
    """What to send and what must come back.

    Parameters
    ----------
    beats : ndarray of uint8, shape (beats of all frames, bytes)
        Input beats.
    lengths : ndarray of int, shape (frames,)
        Beats that each frame is sent with.
    expected : ndarray of uint8, shape (frames, beats, bytes)
        Output beats.
    known : ndarray of bool, shape (frames,)
        Frames of which `expected` says the output; that of any other is recorded, to be the reference of a later one.
    reference : ndarray of int, shape (frames,)
        Frame whose output is due; most often the frame itself.
    malformed : ndarray of bool, shape (frames,)
        Frames whose last output beat must carry TUSER.
    solo : int
        Frames sent alone, each after the one before has left; the rest goes back to back.
    back_pressure : str
        A `karui.sim.results.BackPressure`.
    seed, watchdog, drain : int
        Of the pauses; cycles without a transfer until a run is given up; cycles to watch for surplus words.
    timed : int
        Frames whose cycles are logged.
    log : str
        File of events, see `karui.sim.player_log`.
    """

    beats: npt.NDArray[np.uint8]
    lengths: npt.NDArray[Any]
    expected: npt.NDArray[np.uint8]
    known: npt.NDArray[Any]
    reference: npt.NDArray[Any]
    malformed: npt.NDArray[Any]
    solo: int
    back_pressure: str
    seed: int
    watchdog: int
    drain: int
    timed: int
    log: str

    def save(self, path: Path) -> None:
        """Write the job; `load` is the inverse."""
        np.savez(path, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> BenchJob:
        """Read a job that `save` wrote."""
        with np.load(path) as file:
            return cls(**{name: array if array.ndim else array.item() for name, array in file.items()})


def pauses(mode: str, generator: random.Random) -> Iterator[bool]:
    """In which cycles a stream may move."""
    while True:
        if mode == "none":
            yield True
        elif mode == "random":
            yield generator.random() < 0.5
        else:
            for moving in (True, False):
                for _ in range(generator.randint(1, 32)):
                    yield moving


class Source:
    """Sends the frames of a job on ``s_axis``."""

    def __init__(self, dut: TestbenchPorts, job: BenchJob, generator: random.Random) -> None:
        self._dut = dut
        self._words = iter(to_integers(job.beats))
        self._lengths = [int(length) for length in job.lengths]
        self._solo = job.solo
        self._may_move = pauses(job.back_pressure, generator)
        self._next_frame = 0
        self._next_beat = 0
        self._rest = 0
        self.valid = False
        self.frame = 0
        self.beat = 0

    @property
    def all_sent(self) -> bool:
        """Whether the design has taken every beat."""
        return self._next_frame == len(self._lengths) and not self.valid

    @property
    def position(self) -> tuple[int, int]:
        """Frame and beat that the design must take next."""
        return (self.frame, self.beat) if self.valid else (self._next_frame, self._next_beat)

    def offer(self, frames_received: int) -> None:
        """Put the next beat on the port, if the last one was taken and this cycle may carry one."""
        may_move = next(self._may_move)
        if self.valid:
            return
        self._rest = self._rest + 1 if frames_received == self._next_frame else 0
        alone = self._next_beat == 0 and self._next_frame <= self._solo
        if self._next_frame < len(self._lengths) and may_move and (not alone or self._rest > REST):
            self.frame, self.beat = self._next_frame, self._next_beat
            last = self.beat == self._lengths[self.frame] - 1
            self._dut.s_axis_tdata.value = next(self._words)
            self._dut.s_axis_tlast.value = int(last)
            self._next_frame, self._next_beat = (self.frame + 1, 0) if last else (self.frame, self.beat + 1)
            self.valid = True
        self._dut.s_axis_tvalid.value = int(self.valid)


class Sink:
    """Takes and compares the words of ``m_axis``."""

    def __init__(self, dut: TestbenchPorts, job: BenchJob, generator: random.Random, log: IO[str]) -> None:
        self._dut = dut
        self._beats = job.expected.shape[1]
        self._expected = [to_integers(frame) for frame in job.expected]
        self._reference = [int(frame) for frame in job.reference]
        self._known = [bool(known) for known in job.known]
        self._malformed = [bool(malformed) for malformed in job.malformed]
        self._may_move = pauses(job.back_pressure, generator)
        self._log = log
        self._held: tuple[int, bool, bool] | None = None
        self.ready = False
        self.frame = 0
        self.beat = 0
        self.words = 0
        self.mismatches = 0

    @property
    def all_received(self) -> bool:
        """Whether every expected word has come."""
        return self.frame == len(self._expected)

    def accept(self) -> None:
        """Decide whether this cycle takes a beat, whatever the design offers."""
        self.ready = next(self._may_move)
        self._dut.m_axis_tready.value = int(self.ready)

    def mismatch(self, check: str, expected: int, got: int) -> None:
        """Count and log a failed check of the current beat."""
        if self.mismatches < LOGGED_MISMATCHES:
            self._log.write(f"mismatch {check} {self.frame} {self.beat} {expected:x} {got:x}\n")
        self.mismatches += 1

    def observe(self) -> bool:
        """Look at the port at the clock's edge; return whether an awaited beat was taken."""
        valid = bool(self._dut.m_axis_tvalid.value)
        if not valid:
            if self._held is not None:
                self.mismatch("unstable", self._held[0], 0)
            self._held = None
            return False
        word = self._dut.m_axis_tdata.value.to_unsigned()
        last, user = bool(self._dut.m_axis_tlast.value), bool(self._dut.m_axis_tuser.value)
        if self._held is not None and self._held != (word, last, user):
            self.mismatch("unstable", self._held[0], word)
        self._held = None if self.ready else (word, last, user)
        if not self.ready:
            return False
        if self.all_received:
            self.mismatch("surplus", 0, word)
            return False
        self._compare(word, last, user)
        return True

    def _compare(self, word: int, last: bool, user: bool) -> None:
        reference = self._reference[self.frame]
        ends = self.beat == self._beats - 1
        if reference == self.frame and not self._known[self.frame]:
            self._expected[self.frame][self.beat] = word
        expected = self._expected[reference][self.beat]
        if word != expected:
            self.mismatch("word", expected, word)
        if last != ends:
            self.mismatch("tlast", int(ends), int(last))
        # Whether a frame is too long shows after its output may have begun: only the last beat must tell.
        if (ends or not self._malformed[self.frame]) and user != self._malformed[self.frame]:
            self.mismatch("tuser", int(self._malformed[self.frame]), int(user))
        self.words += 1
        self.frame, self.beat = (self.frame + 1, 0) if ends else (self.frame, self.beat + 1)


@cocotb.test()
async def stream(dut: TestbenchPorts) -> None:
    """Play the job and log what happened."""
    job = BenchJob.load(Path(os.environ[JOB_VARIABLE]))
    cocotb.log.info("pauses: %s, seed %d", job.back_pressure, job.seed)
    with Path(job.log).open("w") as log:
        source = Source(dut, job, random.Random(2 * job.seed))
        sink = Sink(dut, job, random.Random(2 * job.seed + 1), log)
        await _reset(dut)
        cycle = idle = surplus_watch = 0
        while idle < job.watchdog and surplus_watch < job.drain:
            # The clock is low: the inputs settle until it rises, where both sides look at what the edge will see.
            source.offer(sink.frame)
            sink.accept()
            await Timer(1, unit="step")
            sent = source.valid and bool(dut.s_axis_tready.value)
            frame = sink.frame
            received = sink.observe()
            dut.clk.value = 1
            await Timer(1, unit="step")
            dut.clk.value = 0
            if sent:
                source.valid = False
                if source.beat == 0 and source.frame < job.timed:
                    log.write(f"start {source.frame} {cycle}\n")
            if sink.frame != frame and frame < job.timed:
                log.write(f"end {frame} {cycle}\n")
            cycle += 1
            idle = 0 if sent or received else idle + 1
            surplus_watch += source.all_sent and sink.all_received
        if not (source.all_sent and sink.all_received):
            log.write(
                f"stall {source.all_sent:d} {source.valid:d} {' '.join(map(str, source.position))} "
                f"{sink.all_received:d} {sink.frame} {sink.beat}\n"
            )
        log.write(f"done {cycle} {sink.words} {sink.mismatches}\n")


async def _reset(dut: TestbenchPorts) -> None:
    dut.external.value = 1
    dut.s_axis_tvalid.value = 0
    dut.s_axis_tlast.value = 0
    dut.s_axis_tdata.value = 0
    dut.m_axis_tready.value = 0
    dut.rst.value = 1
    for _ in range(4):
        dut.clk.value = 0
        await Timer(1, unit="step")
        dut.clk.value = 1
        await Timer(1, unit="step")
    dut.clk.value = 0
    dut.rst.value = 0
