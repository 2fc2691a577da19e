"""The contract of a storage engine as a test suite: derive a test class, say how the engine is opened, run pytest.

    from contextlib import closing

    from kvs.testing import StorageContract


    class TestMyEngine(StorageContract):
        def open_storage(self):
            return closing(MyStorage())

An engine that keeps data on disk derives from :class:`DurableStorageContract` instead. Each case holds one promise of
:mod:`kvs.ports.storage`; its name and its docstring say which. It needs what
the extra ``testing`` of the distribution ``kvs-server`` names: hypothesis and pytest.
"""

from importlib.util import find_spec

for _name in ("hypothesis", "pytest"):
    if find_spec(_name) is None:
        raise ModuleNotFoundError(f"kvs.testing needs {_name}: pip install hypothesis pytest", name=_name)

import pytest  # noqa: E402  # only now, that it is there

# Before they are imported, so that a failed assertion shows what it compared.
pytest.register_assert_rewrite("kvs.testing.cases", "kvs.testing.drivers", "kvs.testing.machine")

from kvs.testing.contract import DurableStorageContract, StorageContract  # noqa: E402  # see above
from kvs.testing.opening import open_engine  # noqa: E402

__all__ = ["DurableStorageContract", "StorageContract", "open_engine"]
