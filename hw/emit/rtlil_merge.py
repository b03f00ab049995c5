"""Merge identical modules of an RTLIL design.

Amaranth emits one module an instance: sixteen equal PEs are sixteen modules, each of which is then parsed, built by
Verilator and synthesized anew. Two modules are the same here when they are equal line by line after

- names that carry the position in the whole netlist (``port$<cell>$<bit>``) are renumbered in order of use,
- wires are sorted by name, since their order follows the nets outside the module,
- submodule types are replaced by the class of identical modules they belong to, bottom-up.

This is equality of text, so modules that differ in one constant, one width or one port never merge.
"""

import re
from dataclasses import dataclass, field

_LOCAL_NAME = re.compile(r"\\port\$\d+\$\d+")
_PORT = re.compile(r" (input|output|inout) \d+ ")
_CELL = re.compile(r"\s*cell \\(\S+) (\S+)")
_NOT_IN_IDENTIFIER = re.compile(r"\W")


@dataclass(kw_only=True)
class _Module:
    name: str
    wires: list[list[str]] = field(default_factory=list)
    """Each wire's attribute lines, then its own line."""
    body: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class MergedDesign:
    """An RTLIL design in which every module is different.

    Parameters
    ----------
    text
        The design as RTLIL.
    instances
        Module name in ``text`` -> the hierarchical names of the instances that share it, dots between the levels.
    """

    text: str
    instances: dict[str, tuple[str, ...]]


def merge_identical_modules(rtlil: str) -> MergedDesign:
    """Emit each distinct module of an RTLIL design once.

    Parameters
    ----------
    rtlil
        Design as ``amaranth.back.rtlil.convert(..., emit_src=False)`` writes it: the top first, parents before
        children.

    Returns
    -------
    MergedDesign
        A class is named after its first instance, with underscores between the levels. Ports: ``clk``, ``rst``, then
        by name.
    """
    modules = _parse(rtlil)
    class_of: dict[str, int] = {}
    port_names: dict[str, dict[str, str]] = {}
    class_of_content: dict[tuple[str, ...], int] = {}
    members: list[list[str]] = []
    contents: list[tuple[str, ...]] = []
    for name in reversed(modules):
        body, renamed = _canonical_body(modules[name], class_of, port_names)
        wires = _canonical_wires(modules[name], renamed)
        port_names[name] = renamed
        content = (*wires, *body)
        index = class_of_content.setdefault(content, len(members))
        if index == len(members):
            members.append([])
            contents.append(content)
        class_of[name] = index
        members[index].insert(0, name)

    names = _class_names(members, list(modules))
    text: list[str] = []
    for name in modules:
        index = class_of[name]
        if members[index][0] != name:
            continue
        top = "attribute \\top 1\n" if name == next(iter(modules)) else ""
        text.append(f"{top}module \\{names[index]}\n")
        text.extend(
            re.sub(r"^(\s*cell )\\<(\d+)>", lambda m: f"{m[1]}\\{names[int(m[2])]}", line) + "\n"
            for line in contents[index]
        )
        text.append("end\n")
    return MergedDesign(
        text="".join(text), instances={names[index]: tuple(members[index]) for index in range(len(members))}
    )


def _parse(rtlil: str) -> dict[str, _Module]:
    modules: dict[str, _Module] = {}
    module: _Module | None = None
    attributes: list[str] = []
    for line in rtlil.splitlines():
        if not line:
            continue
        if line.startswith("module \\"):
            module = modules.setdefault(line[8:], _Module(name=line[8:]))
            attributes = []
        elif module is None:
            continue
        elif line == "end":
            module = None
        elif line.startswith("  attribute "):
            attributes.append(line)
        elif line.startswith("  wire "):
            module.wires.append([*attributes, line])
            attributes = []
        else:
            module.body.extend([*attributes, line])
            attributes = []
    return modules


def _canonical_body(
    module: _Module, class_of: dict[str, int], port_names: dict[str, dict[str, str]]
) -> tuple[list[str], dict[str, str]]:
    """Lines of cells, processes and connections, and the new names of the module's own ``port$`` wires."""
    renamed: dict[str, str] = {}

    def local(text: str) -> str:
        return _LOCAL_NAME.sub(lambda match: renamed.setdefault(match[0], f"\\port${len(renamed)}"), text)

    lines: list[str] = []
    body = iter(module.body)
    for line in body:
        cell = _CELL.match(line)
        if cell is None or cell[1] not in class_of:
            lines.append(local(line))
            continue
        lines.append(f"  cell \\<{class_of[cell[1]]}> {cell[2]}")
        child_ports = port_names[cell[1]]
        connections: dict[str, str] = {}
        for inner in body:
            if inner == "  end":
                break
            keyword, port, value = inner.strip().split(" ", 2)
            assert keyword == "connect", f"a submodule has connections only, not {inner!r}"
            connections[child_ports.get(port, port)] = value
        lines.extend(f"    connect {port} {local(connections[port])}" for port in sorted(connections))
        lines.append("  end")
    return lines, renamed


def _canonical_wires(module: _Module, renamed: dict[str, str]) -> list[str]:
    groups: list[tuple[str, list[str]]] = []
    for group in module.wires:
        head, _, name = group[-1].rpartition(" ")
        if _LOCAL_NAME.fullmatch(name):
            name = renamed.setdefault(name, f"\\port${len(renamed)}")
        groups.append((name, [*group[:-1], f"{head} {name}"]))
    groups.sort(key=lambda group: (group[0] not in (r"\clk", r"\rst"), group[0]))
    lines: list[str] = []
    ports = 1  # Yosys moves a port numbered 0 to the end
    for _, group in groups:
        numbered, is_port = _PORT.subn(rf" \g<1> {ports} ", group[-1])
        ports += is_port
        lines.extend([*group[:-1], numbered])
    return lines


def _class_names(members: list[list[str]], order: list[str]) -> list[str]:
    position = {name: index for index, name in enumerate(order)}
    names = [""] * len(members)
    taken: set[str] = set()
    for index in sorted(range(len(members)), key=lambda index: position[members[index][0]]):
        plain = _NOT_IN_IDENTIFIER.sub("_", members[index][0])
        name = plain
        copy = 1
        while name in taken:
            copy += 1
            name = f"{plain}_{copy}"
        taken.add(name)
        names[index] = name
    return names
