"""Emission: merged modules stay the same circuit, memory images hold the words, and the bytes do not vary."""

import re
from pathlib import Path

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Cat, Elaboratable, Module, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.emit.rtlil_merge import merge_identical_modules
from karui.hw.emit.verilog import emit
from karui.hw.emit.yosys import YosysError, run_yosys

WORDS = [(37 * index + 5) % 2**13 for index in range(48)]


class Pe(wiring.Component):
    def __init__(self, constant: int) -> None:
        self.constant = constant
        super().__init__({"x": In(4), "w": In(4), "first": In(1), "y": Out(6)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        product = Signal(4, reset_less=True)
        m.d.sync += product.eq(self.x ^ self.w)
        with m.If(self.first):
            m.d.sync += self.y.eq(product + self.constant)
        with m.Else():
            m.d.sync += self.y.eq(self.y + product)
        return m


class Rom(wiring.Component):
    def __init__(self, words: list[int]) -> None:
        self.words = words
        super().__init__({"address": In(6), "word": Out(13)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = words = memory.Memory(
            shape=13, depth=len(self.words), init=self.words, attrs={"rom_style": "block"}
        )
        port = words.read_port()
        m.d.comb += [port.addr.eq(self.address), self.word.eq(port.data)]
        return m


class Array(wiring.Component):
    """PEs fed from bits that other PEs and registers in several places make, so that their ports are split nets."""

    i: In(stream.Signature(data.ArrayLayout(4, 2)))
    total: Out(10)

    def __init__(self, constants: list[int], words: list[int]) -> None:
        self.constants = constants
        self.words = words
        super().__init__()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.rom = rom = Rom(self.words)
        address = Signal(6)
        m.d.sync += address.eq(address + 1)
        m.d.comb += [rom.address.eq(address), self.i.ready.eq(1)]
        total = 0
        before = Signal(6)
        m.d.sync += before.eq(before + 3)
        for index, constant in enumerate(self.constants):
            pe = Pe(constant)
            m.submodules[f"pe_{index}"] = pe
            odd = Signal(2)
            m.d.sync += odd.eq(before[1:3])
            m.d.comb += [
                pe.x.eq(Cat(self.i.payload[0][index % 4], before[0], odd[1], rom.word[index % 13])),
                pe.w.eq(Cat(odd[0], self.i.payload[1][1:4])),
                pe.first.eq(address[0]),
            ]
            before = pe.y
            total = total + pe.y
        m.d.sync += self.total.eq(total)
        return m


def converted(component: Elaboratable) -> str:
    return rtlil.convert(component, name="accelerator", emit_src=False)


def modules(text: str) -> list[str]:
    return re.findall(r"^module \\?([^\s(]+)", text, re.MULTILINE)


def prove_equal(folder: Path, gold: str, gate: str) -> None:
    """Induction over the miter of two designs; raises YosysError when they can differ."""
    (folder / "gold.il").write_text(gold)
    (folder / "gate.il").write_text(gate)
    prepare = ["proc", "memory -nomap", "memory_map", "flatten", "opt_clean"]
    run_yosys(
        ["read_rtlil gold.il", "hierarchy -top accelerator", *prepare, "rename accelerator gold", "design -stash gold",
         "read_rtlil gate.il", "hierarchy -top accelerator", *prepare, "rename accelerator gate", "design -stash gate",
         "design -copy-from gold gold", "design -copy-from gate gate",
         "equiv_make gold gate equiv", "hierarchy -top equiv", "equiv_simple -undef", "equiv_induct -undef",
         "equiv_status -assert"],
        folder=folder,
    )  # fmt: skip


def test_identical_modules_are_emitted_once(tmp_path: Path) -> None:
    flat = converted(Array([3] * 16, WORDS))
    merged = merge_identical_modules(flat)
    assert len(modules(flat)) == 18
    assert sorted(modules(merged.text)) == ["accelerator", "accelerator_pe_0", "accelerator_rom"]
    assert merged.instances["accelerator_pe_0"] == tuple(f"accelerator.pe_{index}" for index in range(16))
    assert len(re.findall(r"cell \\accelerator_pe_0 ", merged.text)) == 16


def test_one_different_constant_is_not_merged() -> None:
    merged = merge_identical_modules(converted(Array([3, 3, 2, 3], WORDS)))
    assert merged.instances["accelerator_pe_0"] == tuple(f"accelerator.pe_{index}" for index in (0, 1, 3))
    assert merged.instances["accelerator_pe_2"] == ("accelerator.pe_2",)


def test_merging_keeps_the_circuit(tmp_path: Path) -> None:
    flat = converted(Array([3, 3, 2, 3], WORDS))
    merged = merge_identical_modules(flat).text
    assert "port$" in flat, "the design has to have ports without a name of their own"
    prove_equal(tmp_path, flat, merged)
    broken = merged.replace("cell \\accelerator_pe_2 ", "cell \\accelerator_pe_0 ")
    with pytest.raises(YosysError, match="unproven"):
        prove_equal(tmp_path, flat, broken)


def test_images_hold_the_words_in_hexadecimal(tmp_path: Path) -> None:
    files = emit(Array([3] * 4, WORDS), tmp_path)
    assert files == [tmp_path / "accelerator.v", tmp_path / "rom.mem"]
    assert (tmp_path / "rom.mem").read_text() == "".join(f"{word:04x}\n" for word in WORDS)
    verilog = files[0].read_text()
    assert '$readmemh("rom.mem", ' in verilog
    assert re.search(r'\(\* rom_style = "block" \*\)\n  reg \[12:0\] memory \[47:0\];', verilog)


def test_images_of_memories_whose_names_verilog_has_to_escape_are_written_too(tmp_path: Path) -> None:
    class Twins(wiring.Component):
        address: In(6)
        word: Out(13)

        def elaborate(self, platform: object) -> Module:
            m = Module()
            total = 0
            for factor in (1, 3):
                words = memory.Memory(shape=13, depth=48, init=[word * factor % 2**13 for word in WORDS])
                # A signal of the same name beside it has Amaranth call the memory words$1 or the like.
                beside = Signal(13, name="words")
                m.submodules[f"bank{factor}$x"] = words
                port = words.read_port()
                m.d.comb += [port.addr.eq(self.address), beside.eq(port.data)]
                total = total ^ beside
            m.d.comb += self.word.eq(total)
            return m

    emit(Twins(), tmp_path, name="twins")
    text = (tmp_path / "twins.v").read_text()
    assert re.search(r'readmemh\("[^"]+", \\\S+ \)', text), "no name was escaped"
    assert "readmemb" not in text
    images = sorted(path for path in tmp_path.iterdir() if path.suffix == ".mem")
    assert len(images) == 2
    second_words = {f"{WORDS[1] * factor % 2**13:04x}" for factor in (1, 3)}
    assert {image.read_text().split()[1] for image in images} == second_words


def test_verilog_is_the_component(tmp_path: Path) -> None:
    """The Verilog, images and all, read back by Yosys is the circuit Amaranth described."""
    emit(Array([3, 3, 2, 3], WORDS), tmp_path)
    run_yosys(["read_verilog accelerator.v", "proc", "write_rtlil emitted.il"], folder=tmp_path)
    flat = converted(Array([3, 3, 2, 3], WORDS)).replace("\\i__", "\\i_")
    prove_equal(tmp_path, flat, (tmp_path / "emitted.il").read_text())
    (tmp_path / "rom.mem").write_text("1fff\n" * len(WORDS))
    run_yosys(["read_verilog accelerator.v", "proc", "write_rtlil emitted.il"], folder=tmp_path)
    with pytest.raises(YosysError, match="unproven"):
        prove_equal(tmp_path, flat, (tmp_path / "emitted.il").read_text())


def test_ports_are_flat_with_single_underscores(tmp_path: Path) -> None:
    verilog = emit(Array([1], WORDS), tmp_path, name="top")[0].read_text()
    ports = re.search(r"^module top\((.*)\);", verilog, re.MULTILINE)
    assert ports is not None
    assert ports[1].split(", ") == ["clk", "rst", "i_payload", "i_ready", "i_valid", "total"]


def test_emission_is_deterministic_and_replaces_the_old(tmp_path: Path) -> None:
    first = {path.name: path.read_bytes() for path in emit(Array([3, 2], WORDS), tmp_path)}
    (tmp_path / "old.mem").write_text("0\n")
    second = {path.name: path.read_bytes() for path in emit(Array([3, 2], WORDS), tmp_path)}
    assert first == second
    assert {path.name for path in tmp_path.iterdir()} == set(first)


def test_two_members_with_one_flat_name_are_refused(tmp_path: Path) -> None:
    class Clash(wiring.Component):
        a: In(wiring.Signature({"b": In(1)}))
        a_b: In(1)

        def elaborate(self, platform: object) -> Module:
            return Module()

    clash = Clash()
    clash._MustUse__used = True  # never elaborated: refused before
    with pytest.raises(ValueError, match="two members of Clash are both named 'a_b'"):
        emit(clash, tmp_path)
