"""Training: PyTorch lives here and nowhere below."""

import importlib.util
import sys

if importlib.util.find_spec("torch") is None:
    _ADVICE = "PyTorch is missing; install it with: pip install -e '.[train]'"
    if sys.argv[:1] == ["-m"]:  # a command, `python -m train.hkd`: one sentence, no traceback
        print(_ADVICE, file=sys.stderr)
        raise SystemExit(2)
    raise ImportError(_ADVICE)
