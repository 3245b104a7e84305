"""``tieline-cloud``: run the hub, and tell a running hub what to do."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from tieline_cloud.commands.parser import build_parser
from tieline_core.errors import TielineError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0 done, 1 refused or failed, 2 wrong usage."""
    options = build_parser().parse_args(arguments)
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except BaseExceptionGroup as group:
        known, other = group.split(TielineError)
        if other is not None or known is None:
            raise
        _complain(known)
        return 1
    except TielineError as error:
        print(f"tieline-cloud: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read the output has seen enough; the interpreter must not write the rest at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def _complain(group: BaseExceptionGroup[Any]) -> None:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            _complain(error)
        else:
            print(f"tieline-cloud: {error}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
