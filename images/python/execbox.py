"""Data in and results out, for programs that execbox runs.

    from execbox import parameters, input_data, uploaded_files, workspace, job_id
    from execbox import save_result, load_file, save_file

A program that runs with "script": true has these names without the import.

A program may have a json.py or a csv.py of its own, and must get that one: so only modules that are built into the
interpreter, or that it has loaded itself, are imported here, and nothing takes time that a program does not ask for.
"""

import _json
import os
import sys

__all__ = [
    "parameters",
    "input_data",
    "uploaded_files",
    "workspace",
    "job_id",
    "save_result",
    "load_file",
    "save_file",
]

# Containers in one another; what is deeper most likely holds itself.
MAX_DEPTH = 100
MAX_KEY = 256


def parse(text):
    """The value of a JSON text."""
    text = text.strip(" \t\r\n")
    try:
        value, end = scan(text, 0)
    except StopIteration as stop:
        raise ValueError(f"no JSON at character {stop.value}") from None
    if end != len(text):
        raise ValueError(f"more than one JSON value, the second at character {end}")
    return value


class Scanning:
    """How the interpreter's own scanner is told to read JSON as the json module does."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}.__getitem__
    memo = {}


scan = _json.make_scanner(Scanning)


def encode(value, where="the value"):
    """The JSON text of a value. NaN and the infinities, which JSON lacks, become null."""
    parts = []
    write(value, where, 0, parts.append)
    return "".join(parts)


def write(value, where, depth, put):
    if depth > MAX_DEPTH:
        raise ValueError(f"{where} is nested deeper than {MAX_DEPTH}, or holds itself")
    if value is None or value is True or value is False:
        put({None: "null", True: "true", False: "false"}[value])
    elif isinstance(value, str):
        put(string(value))
    elif isinstance(value, int):
        put(integer(int(value), where))
    elif isinstance(value, float):
        put(number(value))
    elif isinstance(value, dict):
        write_dict(value, where, depth, put)
    elif isinstance(value, (list, tuple, set, frozenset)):
        write_list(value, where, depth, put)
    else:
        write_other(value, where, depth, put)


def string(text):
    try:
        text.encode()
    except UnicodeEncodeError:
        # Lone surrogates have no place in JSON.
        text = text.encode("utf-8", "backslashreplace").decode()
    return _json.encode_basestring_ascii(text)


def integer(value, where):
    if abs(value) >= 1 << 1000:
        raise TypeError(f"{where} is an integer too large for JSON's readers; save it as a string")
    return int.__repr__(value)


def number(value):
    text = float.__repr__(value)
    return "null" if text in ("nan", "inf", "-inf") else text


def write_list(values, where, depth, put):
    before = "["
    for at, value in enumerate(values):
        put(before)
        write(value, f"{where}[{at}]" if depth < 3 else where, depth + 1, put)
        before = ","
    put("]" if before == "," else "[]")


def write_dict(values, where, depth, put):
    before = "{"
    for key, value in values.items():
        text = key_text(key, where)
        put(before)
        put(string(text))
        put(":")
        write(value, f"{where}[{text!r}]" if depth < 3 else where, depth + 1, put)
        before = ","
    put("}" if before == "," else "{}")


def key_text(key, where):
    """Keys of JSON are strings; those of data frames are often numbers or times."""
    if isinstance(key, str):
        return key
    plain = key if isinstance(key, (bool, int, float)) or key is None else plain_of(key)
    if plain is None or isinstance(plain, (str, bool, int, float)):
        return plain if isinstance(plain, str) else encode(plain, where)
    raise TypeError(f"{where} has a key of type {type_name(key)}, which JSON can't hold: {short(key)}")


def write_other(value, where, depth, put):
    plain = plain_of(value)
    if plain is value:
        raise TypeError(f"{where} is of type {type_name(value)}, which JSON can't hold: {short(value)}")
    if isinstance(plain, Literal):
        put(plain)
    else:
        write(plain, where, depth + 1, put)


class Literal(str):
    """A text that is JSON already."""


def plain_of(value):
    """The same in types of the language's own; the value itself where there is no way. No module is imported to know
    its types: a value of one shows that the program has."""
    names = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(value).__mro__}
    modules = {module for module, _ in names}
    if ("datetime", "datetime") in names or ("datetime", "date") in names or ("datetime", "time") in names:
        # pandas' NaT is a time that equals nothing, not even itself.
        return value.isoformat() if value == value else None
    if ("datetime", "timedelta") in names:
        return value.total_seconds() if value == value else None
    if ("decimal", "Decimal") in names:
        fits = value.is_finite() and value.adjusted() < 300
        return Literal(value) if fits else None if not value.is_finite() else str(value)
    if ("uuid", "UUID") in names or ("fractions", "Fraction") in names:
        return str(value)
    if ("enum", "Enum") in names:
        return value.value
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        return {name: getattr(value, name) for name in value.__dataclass_fields__}
    if hasattr(value, "__fspath__"):
        return os.fspath(value)
    if "numpy" in modules:
        return plain_of_numpy(value)
    if "pandas" in modules:
        return plain_of_pandas(value, {name for module, name in names if module == "pandas"})
    if hasattr(value, "keys") and hasattr(value, "__getitem__"):
        return {key: value[key] for key in value.keys()}
    if ("collections", "deque") in names or type(value).__name__ in ("dict_keys", "dict_values", "range"):
        return list(value)
    return value


def plain_of_numpy(value):
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if type(value).__name__ == "MaskedConstant":
        return None
    if kind in "iufb" and hasattr(value, "tolist"):
        return value.tolist()
    if kind == "M":
        return without_nat(value.astype(str).tolist())
    if kind == "m":
        return (value / value.dtype.type(1, "s")).tolist()
    if kind in "USO" and hasattr(value, "tolist"):
        # Bytes are no text, and say so where they are met.
        return value.tolist()
    return value


def without_nat(texts):
    if isinstance(texts, list):
        return [without_nat(text) for text in texts]
    return None if texts == "NaT" else texts


def plain_of_pandas(value, names):
    if "DataFrame" in names:
        if type(value.index).__name__ != "RangeIndex":
            value = value.reset_index()
        columns = [column if isinstance(column, str) else str(column) for column in value.columns]
        return [dict(zip(columns, row)) for row in value.itertuples(index=False, name=None)]
    if "Series" in names:
        return value.tolist() if type(value.index).__name__ == "RangeIndex" else value.to_dict()
    if "NAType" in names or "NaTType" in names:
        return None
    if "Period" in names or "Interval" in names:
        return str(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    return value


def type_name(value):
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def short(value):
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."


def hand_back(text):
    """One line for whoever asked for the execution."""
    try:
        descriptor = int(os.environ["EXECBOX_RESULT_FD"])
        rest = text.encode() + b"\n"
        while rest:
            rest = rest[os.write(descriptor, rest):]
    except (KeyError, ValueError, OSError) as error:
        raise OSError(f"there is no way to hand results back here: {error}") from None


def save_result(key, value):
    """Puts a value into the `results` of the execution. The last under a key wins."""
    if not isinstance(key, str):
        raise TypeError(f"save_result: the key must be a string, not {short(key)} of type {type_name(key)}")
    if not 1 <= len(key) <= MAX_KEY:
        raise ValueError(f"save_result: a key has 1 to {MAX_KEY} characters, not {len(key)}")
    text = encode(value, f"save_result: the value of {key!r}")
    hand_back('{"save":{"key":%s,"value":%s}}' % (string(key), text))


def load_file(name):
    """The content of a file of the project, by its ending: a table (CSV, TSV, Parquet, Excel), the value of a JSON file, a
    list of those of a JSON lines file; else its text, or its bytes where they are no text.

    A table is a pandas DataFrame; without pandas, of CSV and TSV a list of dicts."""
    path = os.path.join(workspace, os.fspath(name))
    if not os.path.isfile(path):
        there = ", ".join(uploaded_files) or "none"
        raise FileNotFoundError(f"load_file: there is no file {os.fspath(name)!r}; uploaded files: {there}")
    ending = os.path.splitext(path)[1].lower()
    if ending in (".csv", ".tsv", ".tab"):
        return table(path, "," if ending == ".csv" else "\t")
    if ending in (".parquet", ".xlsx", ".xls"):
        return frame(path, ending)
    with open(path, "rb") as file:
        content = file.read()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content
    try:
        if ending == ".json":
            return parse(text)
        if ending in (".jsonl", ".ndjson"):
            return [parse(line) for line in text.splitlines() if line.strip()]
    except ValueError as error:
        raise ValueError(f"load_file: {os.fspath(name)!r}: {error}") from None
    return content if "\0" in text else text


def pandas():
    try:
        import pandas
    except ImportError:
        return None
    return pandas if hasattr(pandas, "read_csv") else None


def table(path, separator):
    library = pandas()
    if library:
        return library.read_csv(path, sep=separator)
    import _csv

    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = _csv.reader(file, delimiter=separator)
        head = next(rows, [])
        return [dict(zip(head, row)) for row in rows if row]


def frame(path, ending):
    library = pandas()
    read = {".parquet": "read_parquet", ".xlsx": "read_excel", ".xls": "read_excel"}[ending]
    if not library:
        raise ImportError(f"load_file: {ending} files need pandas, which this language does not have here")
    try:
        return getattr(library, read)(path)
    except ImportError as error:
        raise ImportError(f"load_file: {ending} files need a library that is not here: {error}") from None


def save_file(name, content):
    """Writes a file that comes back as an artifact: text, bytes, a data frame by the name's ending, or for .json any value
    that JSON can hold. Gives its path."""
    path = os.path.join(workspace, os.fspath(name))
    ending = os.path.splitext(path)[1].lower()
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogateescape")
    elif hasattr(content, "to_csv") and ending in (".csv", ".tsv", ".parquet", ".xlsx"):
        save_frame(path, ending, content)
        return path
    elif ending == ".json":
        content = encode(content, f"save_file: the content of {os.fspath(name)!r}").encode()
    elif not isinstance(content, (bytes, bytearray, memoryview)):
        raise TypeError(
            f"save_file: the content of {os.fspath(name)!r} must be text or bytes, not {type_name(content)}"
        )
    with open(path, "wb") as file:
        file.write(content)
    return path


def save_frame(path, ending, frame):
    index = type(frame.index).__name__ != "RangeIndex"
    if ending == ".parquet":
        frame.to_parquet(path)
    elif ending == ".xlsx":
        frame.to_excel(path, index=index)
    else:
        frame.to_csv(path, index=index, sep="," if ending == ".csv" else "\t")


def read_input():
    path = os.environ.get("EXECBOX_INPUT")
    if not path:
        return {}
    with open(path, "rb") as file:
        return parse(file.read().decode())


_input = read_input()
parameters = _input.get("parameters")
if parameters is None:
    parameters = {}
input_data = _input.get("input_data")
uploaded_files = _input.get("uploaded_files", [])
workspace = _input.get("workspace", "/work")
job_id = os.environ.get("EXECBOX_JOB_ID")
