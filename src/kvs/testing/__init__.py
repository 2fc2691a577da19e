"""The contract of a storage engine as a test suite: derive a test class, define how it opens the engine, run pytest.

    from contextlib import closing

    from kvs.testing import StorageContract


    class TestMyEngine(StorageContract):
        def open_storage(self):
            return closing(MyStorage())

The test class of an engine that keeps data on disk derives from :class:`DurableStorageContract` instead. Each case
tests one promise of :mod:`kvs.ports.storage`; its name and its docstring say which. The suite needs hypothesis and
pytest, which the extra ``testing`` of the distribution ``kvs-server`` installs.
"""

from importlib.util import find_spec

for _name in ("hypothesis", "pytest"):
    if find_spec(_name) is None:
        raise ModuleNotFoundError(f"kvs.testing needs {_name}: pip install hypothesis pytest", name=_name)

import pytest  # noqa: E402  # after the check that it is installed

# Before they are imported, so that a failed assertion shows what it compared.
pytest.register_assert_rewrite("kvs.testing.cases", "kvs.testing.drivers", "kvs.testing.machine")

from kvs.testing.contract import DurableStorageContract, StorageContract, open_engine  # noqa: E402  # see above

__all__ = ["DurableStorageContract", "StorageContract", "open_engine"]
