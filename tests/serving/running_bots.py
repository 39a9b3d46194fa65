"""A bot in a thread, as long as a test needs it."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator

from tests.conftest import Recorder


@contextlib.contextmanager
def running(runner, *settings) -> Iterator[Recorder]:
    """Runs `runner(*settings, listener)`; an error that ends it is raised at the end."""
    recorder, errors = Recorder(), []
    loop = asyncio.new_event_loop()
    task = loop.create_task(runner(*settings, recorder))

    def work() -> None:
        try:
            loop.run_until_complete(task)
        except asyncio.CancelledError:
            pass
        except Exception as error:
            errors.append(error)
        finally:
            loop.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield recorder
    finally:
        with contextlib.suppress(RuntimeError):  # it has ended by itself
            loop.call_soon_threadsafe(task.cancel)
        thread.join(30)
    if errors:
        raise errors[0]
