"""Runs a program as python itself would, and does what was asked for beside that.

    python3 script.pyc PROGRAM [ARGUMENT...]

Without a file that EXECBOX_INPUT names, the value of the last expression is wanted: its repr is written as
{"result": "..."} to the descriptor that EXECBOX_RESULT_FD names; {"result": null} stands for None and for a program that
ends in something else than an expression. A program that raises or exits writes nothing.

With such a file it says what is wanted: names without an import, a call of a function, open plots as files.

Only modules that are built into the interpreter, or that it has loaded itself, are imported here, and the program's own
execbox.py wins over ours: a program must get the modules that it brings.
"""

import os
import sys

RESULT = "__execbox_result__"


def load(path, evaluate):
    """Compiles the program; if asked to, so that it keeps the value of its last expression under RESULT."""
    with open(path, "rb") as file:
        source = file.read()
    if not evaluate:
        return compile(source, path, "exec", dont_inherit=True)
    import _ast

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


def new_module(name, path):
    """A fresh module, as the interpreter makes it for a program."""
    module = type(sys)(name)
    module.__file__ = path
    module.__builtins__ = sys.modules["builtins"]
    sys.modules[name] = module
    return module


def hide_own_frames(error):
    """Takes our frames out of what is shown, wherever in the chain they are."""
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        kept, at = [], error.__traceback__
        while at:
            if at.tb_frame.f_code.co_filename not in OWN:
                kept.append(at)
            at = at.tb_next
        after = None
        for at in reversed(kept):
            at.tb_next = after
            after = at
        error.__traceback__ = after
        error = error.__cause__ or error.__context__


def json_string(text):
    # Lone surrogates have no place in JSON.
    units = text.encode("utf-16-be", "backslashreplace")
    codes = (units[i] << 8 | units[i + 1] for i in range(0, len(units), 2))
    return '"%s"' % "".join(
        chr(code) if 32 <= code < 127 and code not in b'"\\' else "\\u%04x" % code for code in codes
    )


def report(descriptor, result):
    rest = ('{"result": %s}\n' % ("null" if result is None else json_string(result))).encode()
    try:
        while rest:
            rest = rest[os.write(descriptor, rest):]
    except OSError:
        # The program has closed the descriptor: there is no result.
        pass


def call(main, name):
    """The value of the function that was asked for, as JSON."""
    file = os.path.basename(main.__file__)
    function = main.__dict__.get(name)
    if function is None:
        there = [f"`{key}`" for key, value in main.__dict__.items() if is_own_function(main, key, value)]
        there = "it has " + ", ".join(there[:50]) if there else "it has no function at all"
        raise NameError(f"call: {file} has no function `{name}`; {there}")
    if not callable(function):
        raise TypeError(f"call: `{name}` in {file} is no function, but of type {type(function).__name__}")
    value = function()
    if hasattr(value, "send") and hasattr(value, "cr_frame"):
        import asyncio

        value = asyncio.run(value)
    return library.encode(value, f"call: what `{name}` returned")


def is_own_function(main, key, value):
    return callable(value) and getattr(value, "__module__", None) == main.__name__ and not key.startswith("__")


def keep_plots():
    """Writes the figures that are open to files of names that nobody has taken."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    at = 0
    for number in pyplot.get_fignums() if pyplot else []:
        at += 1
        while os.path.lexists(path := os.path.join(library.workspace, f"plot_{at}.png")):
            at += 1
        try:
            pyplot.figure(number).savefig(path)
        except Exception as error:
            print(f"capture_plots: figure {number} could not be saved: {error}", file=sys.stderr)


def quiet_show():
    """Nobody looks, so there is nothing to warn of."""
    import warnings

    warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive")


def package_of(path, root):
    """The package that a __main__.py in a folder is of, and the folder in which that is found."""
    folder, name = os.path.dirname(path), ""
    while folder.startswith(root + "/") and (not name or os.path.exists(os.path.join(folder, "__init__.py"))):
        name = os.path.basename(folder) + (name and "." + name)
        folder = os.path.dirname(folder)
    return name, folder


def set_up(path, wanted):
    """The program's module, with its path to other modules as it is for a program."""
    root, package = os.getcwd(), None
    sys.path[0] = os.path.dirname(os.path.realpath(path))
    if os.path.basename(path) == "__main__.py" and path.startswith(root + "/") and sys.path[0] != root:
        package, sys.path[0] = package_of(path, root)
    if sys.path[0] != root:
        sys.path.insert(1, root)
    if any(os.path.exists(os.path.join(sys.path[0], name)) for name in ("execbox.py", "execbox")):
        sys.modules.pop("execbox", None)
    # A called function's module is no main program: what stands under `if __name__ == "__main__"` is not wanted.
    name = os.path.splitext(os.path.basename(path))[0] if wanted.get("call") else "__main__"
    main = new_module(name, path)
    if package:
        main.__package__ = package
    if wanted.get("script"):
        main.__dict__.update({name: getattr(library, name) for name in library.__all__})
    return main


def run():
    wanted = library._input if library else {"eval_last_expr": True}
    descriptor = int(os.environ["EXECBOX_RESULT_FD"])
    if not library:
        del os.environ["EXECBOX_RESULT_FD"], os.environ["EXECBOX_RESULTS"]
        os.set_inheritable(descriptor, False)
    del sys.argv[0]
    path = os.path.abspath(sys.argv[0])
    evaluate, value, returned = wanted.get("eval_last_expr"), None, None
    main = set_up(path, wanted)
    if wanted.get("capture_plots"):
        quiet_show()
    try:
        try:
            exec(load(path, evaluate), main.__dict__)
            value = main.__dict__.pop(RESULT, None)
            value = None if value is None else repr(value)
            if wanted.get("call"):
                returned = call(main, wanted["call"])
        finally:
            if wanted.get("capture_plots"):
                keep_plots()
        if returned is not None:
            library.hand_back('{"return_value":%s}' % returned)
    except SystemExit:
        raise
    except BaseException as error:
        hide_own_frames(error)
        sys.excepthook(type(error), error, error.__traceback__)
        sys.exit(1)
    if evaluate:
        report(descriptor, value)


# Compiled, this file has another name than its frames.
OWN = [run.__code__.co_filename]
library = None
if os.environ.get("EXECBOX_INPUT"):
    import execbox as library

    OWN.append(library.__file__)
run()
