"""Runs a program as python itself would, and reports the value of its last expression.

    python3 eval.py PROGRAM [ARGUMENT...]

The value's repr is written as {"result": "..."} to the descriptor that EXECBOX_RESULT_FD names; {"result": null} stands
for None and for a program that ends in something else than an expression. A program that raises or exits writes
nothing.

Only modules that are built into the interpreter, or that it has loaded itself, are imported here: a program may have a
json.py or an ast.py of its own, and must get that one.
"""

import _ast
import os
import sys

RESULT = "__execbox_result__"


def load(path):
    """Compiles the program so that it keeps the value of its last expression under RESULT."""
    with open(path, "rb") as file:
        source = file.read()
    tree = compile(source, path, "exec", _ast.PyCF_ONLY_AST, dont_inherit=True)
    if tree.body and isinstance(tree.body[-1], _ast.Expr):
        last = tree.body[-1]
        place = {
            "lineno": last.lineno,
            "col_offset": last.col_offset,
            "end_lineno": last.end_lineno,
            "end_col_offset": last.end_col_offset,
        }
        target = _ast.Name(RESULT, _ast.Store(), **place)
        tree.body[-1] = _ast.Assign([target], last.value, **place)
    return compile(tree, path, "exec", dont_inherit=True)


def new_main(path):
    """A fresh __main__ module, as the interpreter makes it for a script."""
    main = type(sys)("__main__")
    main.__file__ = path
    main.__builtins__ = sys.modules["builtins"]
    sys.modules["__main__"] = main
    return main


def without_own_frames(traceback):
    while traceback and traceback.tb_frame.f_code.co_filename == __file__:
        traceback = traceback.tb_next
    return traceback


def json_string(text):
    # Lone surrogates have no place in JSON.
    units = text.encode("utf-16-be", "backslashreplace")
    codes = (units[i] << 8 | units[i + 1] for i in range(0, len(units), 2))
    return '"%s"' % "".join(
        chr(code) if 32 <= code < 127 and code not in b'"\\' else "\\u%04x" % code for code in codes
    )


def report(descriptor, result):
    rest = ('{"result": %s}' % ("null" if result is None else json_string(result))).encode()
    try:
        while rest:
            rest = rest[os.write(descriptor, rest):]
    except OSError:
        # The program has closed the descriptor: there is no result.
        pass


def run():
    descriptor = int(os.environ.pop("EXECBOX_RESULT_FD"))
    os.set_inheritable(descriptor, False)
    del sys.argv[0]
    path = os.path.abspath(sys.argv[0])
    sys.path[0] = os.path.dirname(os.path.realpath(path))
    main = new_main(path)
    try:
        exec(load(path), main.__dict__)
        value = main.__dict__.pop(RESULT, None)
        result = None if value is None else repr(value)
    except SystemExit:
        raise
    except BaseException as error:
        error.__traceback__ = without_own_frames(error.__traceback__)
        sys.excepthook(type(error), error, error.__traceback__)
        sys.exit(1)
    report(descriptor, result)


run()
