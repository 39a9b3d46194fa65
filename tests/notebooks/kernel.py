"""Runs notebooks in a kernel of the interpreter that runs the tests: none has to be installed."""

import os

import pytest

from tests.conftest import ROOT


def execute(notebook, folder, **environment):
    """Executes a notebook in place, in `folder`; returns the messages that its cells caused."""
    nbclient = pytest.importorskip("nbclient", reason="nbclient: install the extra test")
    pytest.importorskip("ipykernel", reason="ipykernel: install the extra test")
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpecManager

    class Client(nbclient.NotebookClient):
        """Remembers what the kernel has sent; the outputs have only the last of each display."""

        def process_message(self, message, cell, cell_index):
            messages.append(message)
            return super().process_message(message, cell, cell_index)

    messages = []
    kernels = KernelSpecManager(kernel_dirs=[])  # but this interpreter's own
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=kernels)
    resources = {"metadata": {"path": str(folder)}}
    client = Client(notebook, km=manager, timeout=600, resources=resources, record_timing=False)
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    given = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    # Streamlit's import has set that for the tests' process: its pictures would not be shown.
    client.execute(env=given | {"PYTHONPATH": os.pathsep.join(paths), **environment})
    return messages
