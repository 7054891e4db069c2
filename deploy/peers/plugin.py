"""A pytest plugin for llama.cpp's server tests, without a network: nothing is downloaded before a module's tests, and
modules that are not installed are stood in for, so that the tests of a file that do not use them run."""

import importlib
import sys
import types

import pytest


class _Absent:
    def __init__(self, *args, **kwargs):
        pytest.skip("a Python module that this test uses is not installed")


def _download(*args, **kwargs):
    pytest.skip("this test downloads a file")


# At import: the suite's conftest.py is read before any hook runs.
for name, content in {"openai": {"OpenAI": _Absent}, "wget": {"download": _download}}.items():
    try:
        importlib.import_module(name)
    except ImportError:
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(content)


def pytest_collection_finish(session):
    utils = sys.modules.get("utils")
    if utils is not None:
        utils.ServerPreset.load_all = staticmethod(lambda: None)
