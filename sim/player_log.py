"""The event log that both benches write, one event a line.

``start FRAME CYCLE``, ``end FRAME CYCLE``, ``mismatch CHECK FRAME BEAT EXPECTED GOT``,
``stall ALL_SENT OFFERED FRAME BEAT ALL_RECEIVED FRAME BEAT``, and at the end ``done CYCLES WORDS MISMATCHES``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from karui.sim.results import Mismatch
from karui.sim.simulate import SimulationError


@dataclass(frozen=True, kw_only=True)
class Stall:
    """Where both streams stood when a run was given up.

    Parameters
    ----------
    all_sent, all_received : bool
        Whether a side had finished.
    offered : bool
        Whether the source held a beat that the design did not take.
    sent_frame, sent_beat, received_frame, received_beat : int
        The beat that did not move.
    """

    all_sent: bool
    offered: bool
    sent_frame: int
    sent_beat: int
    all_received: bool
    received_frame: int
    received_beat: int

    def __str__(self) -> str:
        if self.all_sent:
            source = "s_axis has taken every frame"
        elif self.offered:
            source = f"s_axis refuses beat {self.sent_beat} of frame {self.sent_frame} (tready low)"
        else:
            source = f"s_axis has taken all {self.sent_frame} frames it was offered"
        if self.all_received:
            return f"{source}; m_axis has given every frame"
        return f"{source}; m_axis does not give beat {self.received_beat} of frame {self.received_frame} (tvalid low)"


@dataclass(frozen=True, kw_only=True)
class PlayerLog:
    """A finished run.

    Parameters
    ----------
    starts, ends : dict of int to int
        Cycle of each frame's first input beat and last output beat.
    mismatches : tuple of Mismatch
        The first ones.
    mismatch_count, cycles, words : int
        Totals.
    stall : Stall or None
        Why the run was given up.
    """

    starts: dict[int, int]
    ends: dict[int, int]
    mismatches: tuple[Mismatch, ...]
    mismatch_count: int
    stall: Stall | None
    cycles: int
    words: int

    @classmethod
    def read(cls, path: Path) -> PlayerLog:
        """Read a log.

        Raises
        ------
        SimulationError
            If the run did not come to its end.
        """
        starts: dict[int, int] = {}
        ends: dict[int, int] = {}
        mismatches: list[Mismatch] = []
        stall: Stall | None = None
        totals: list[int] = []
        for line in path.read_text().splitlines():
            event, *fields = line.split()
            if event == "mismatch":
                check, frame, beat, expected, got = fields
                mismatches.append(
                    Mismatch(
                        check=check, frame=int(frame), beat=int(beat), expected=int(expected, 16), got=int(got, 16)
                    )
                )
                continue
            numbers = [int(field) for field in fields]
            if event == "start":
                starts[numbers[0]] = numbers[1]
            elif event == "end":
                ends[numbers[0]] = numbers[1]
            elif event == "stall":
                all_sent, offered, sent_frame, sent_beat, all_received, received_frame, received_beat = numbers
                stall = Stall(
                    all_sent=bool(all_sent),
                    offered=bool(offered),
                    sent_frame=sent_frame,
                    sent_beat=sent_beat,
                    all_received=bool(all_received),
                    received_frame=received_frame,
                    received_beat=received_beat,
                )
            elif event == "done":
                totals = numbers
        if not totals:
            raise SimulationError("the simulation stopped before its end")
        cycles, words, count = totals
        return cls(
            starts=starts,
            ends=ends,
            mismatches=tuple(mismatches),
            mismatch_count=count,
            stall=stall,
            cycles=cycles,
            words=words,
        )
