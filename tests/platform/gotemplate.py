# SPDX-License-Identifier: Apache-2.0
"""gotemplate.py - renders what of Go's templates our chart uses, and refuses all else

    render(text, {"Values": {...}, "Release": {"Namespace": "x"}})

  {{ PATH }}, {{ PATH | toJson }}, {{ PATH | int }}     a bare PATH must be a string: Go prints
                                                        Helm's numbers as 1.677e+07
  {{ if PATH }}, {{ if eq PATH "text" }}, {{ else }}, {{ else if ... }}, {{ end }}
  {{ range PATH }}, {{ range $key, $value := PATH }}    a map in the order of its keys

PATH: .A.B, a lone dot, or $name. A member that is not there is an error, where Helm would
print "<no value>". "{{-" and "-}}" take the white space beside them, as in Go.
"""

import json
import re

_ACTION = re.compile(r"\{\{(-(?=\s))?\s*(.*?)\s*((?<=\s)-)?\}\}", re.S)
_PATH = r"(?:\.|(?:\.[A-Za-z_]\w*)+|\$[a-z]+)"
_OUTPUT = re.compile(rf"({_PATH})(?:\s*\|\s*(toJson|int))?")
_IF = re.compile(rf'if\s+(?:({_PATH})|eq\s+({_PATH})\s+"([^"\\]*)")')
_RANGE = re.compile(rf"range\s+(?:(\$[a-z]+),\s*(\$[a-z]+)\s*:=\s*)?({_PATH})")


class TemplateError(Exception):
    pass


def _tokens(text):
    """("text", str) and ("action", str), with the white space taken that "-" takes."""
    tokens, at, trim = [], 0, False
    for match in _ACTION.finditer(text):
        piece = text[at:match.start()]
        piece = piece.lstrip() if trim else piece
        tokens += [("text", piece.rstrip() if match[1] else piece), ("action", match[2])]
        at, trim = match.end(), bool(match[3])
    rest = text[at:]
    tokens.append(("text", rest.lstrip() if trim else rest))
    for kind, value in tokens:
        if kind == "text" and ("{{" in value or "}}" in value):
            raise TemplateError(f"braces that are no action: {value!r}")
    return tokens


def _parse(tokens, inside):
    """Nodes up to what ends the block; that is left in `tokens`."""
    nodes = []
    while tokens:
        kind, value = tokens[0]
        if kind == "action" and (value == "end" or value.split()[0] == "else"):
            if not inside:
                raise TemplateError(f"{value} of nothing")
            return nodes
        tokens.pop(0)
        if kind == "text":
            nodes.append(("text", value))
        elif match := _IF.fullmatch(value):
            nodes.append(_parse_if(match, tokens))
        elif match := _RANGE.fullmatch(value):
            body = _parse(tokens, True)
            _expect_end(tokens)
            nodes.append(("range", match.groups(), body))
        elif match := _OUTPUT.fullmatch(value):
            nodes.append(("output", match.groups()))
        else:
            raise TemplateError(f"not a construct of our chart: {{{{ {value} }}}}")
    if inside:
        raise TemplateError("a block has no end")
    return nodes


def _expect_end(tokens):
    if tokens.pop(0) != ("action", "end"):
        raise TemplateError("else where it cannot be")


def _parse_if(match, tokens):
    branches = [(match.groups(), _parse(tokens, True))]
    while True:
        _, value = tokens.pop(0)
        if value == "end":
            return ("if", branches)
        if branches[-1][0] is None:
            raise TemplateError("an else behind the last else")
        if value == "else":
            condition = None
        elif match := _IF.fullmatch(value[len("else"):].strip()):
            condition = match.groups()
        else:
            raise TemplateError(f"not a construct of our chart: {{{{ {value} }}}}")
        branches.append((condition, _parse(tokens, True)))


def _look_up(path, dot, root, names):
    if path == ".":
        return dot
    if path.startswith("$"):
        return names[path]
    if dot is not root:
        raise TemplateError(f"{path} inside a range, where the dot is another one")
    value = root
    for member in path[1:].split("."):
        if not isinstance(value, dict) or member not in value:
            raise TemplateError(f"no {member} of {path}")
        value = value[member]
    return value


def _go_json(value):
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def _print(value, function, path):
    if function == "toJson":
        return _go_json(value)
    if function == "int":
        return str(int(value))
    if not isinstance(value, str):
        raise TemplateError(f"{path} is no string: it wants int or toJson")
    return value


def _run(nodes, dot, root, names):
    out = []
    for kind, *rest in nodes:
        if kind == "text":
            out.append(rest[0])
        elif kind == "output":
            path, function = rest[0]
            out.append(_print(_look_up(path, dot, root, names), function, path))
        elif kind == "if":
            for condition, body in rest[0]:
                if condition is None or _holds(condition, dot, root, names):
                    out.append(_run(body, dot, root, names))
                    break
        else:
            (key_name, value_name, path), body = rest
            over = _look_up(path, dot, root, names)
            for key, value in sorted(over.items()) if isinstance(over, dict) \
                    else enumerate(over or []):
                new = {key_name: key, value_name: value} if key_name else {}
                out.append(_run(body, value, root, {**names, **new}))
    return "".join(out)


def _holds(condition, dot, root, names):
    path, compared, literal = condition
    if path:
        return bool(_look_up(path, dot, root, names))
    return _look_up(compared, dot, root, names) == literal


def render(text, data):
    return _run(_parse(_tokens(text), False), data, data, {})
