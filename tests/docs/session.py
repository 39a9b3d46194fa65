"""A Python that runs the blocks of a page one after the other, as a notebook's kernel does.

It reads one JSON string of code a line and answers each with [failed, printed, errors].
"""

import contextlib
import io
import json
import os
import sys
import traceback


def main() -> None:
    with os.fdopen(os.dup(1), "w") as replies:
        os.dup2(2, 1)  # what is not Python's printing must not come between the replies
        names = {"__name__": "__main__"}
        for line in sys.stdin:
            printed, errors, failed = io.StringIO(), io.StringIO(), False
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
                try:
                    exec(compile(json.loads(line), "<snippet>", "exec"), names)
                except BaseException:
                    failed = True
                    traceback.print_exc()
            reply = [failed, printed.getvalue(), errors.getvalue()]
            print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
