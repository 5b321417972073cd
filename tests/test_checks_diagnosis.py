"""Known failures are told from what a process said."""

from __future__ import annotations

import os
import re

import pytest

from checks.diagnosis import TABLE, diagnose, diagnose_end, ending

# What the real tools say, word for word (torch 2.2.2, numpy 1.26.4 and 2.x, glibc, macOS, Windows).
SAID = {
    "UserWarning: Failed to initialize NumPy: _ARRAY_API not found (Triggered internally at"
    " ../torch/csrc/utils/tensor_numpy.cpp:84.)": "numpy-abi",
    "A module that was compiled using NumPy 1.x cannot be run in\nNumPy 2.0.2 as it may crash.": "numpy-abi",
    "module compiled against NumPy 1.x": "numpy-abi",
    "RuntimeError: module compiled against ABI version 0x1000009 but this version of numpy is 0x2000000": "numpy-abi",
    "RuntimeError: module was compiled against NumPy C-API version 0x10 (NumPy 1.23) but the running NumPy has C-API"
    " version 0xf.": "numpy-abi-newer",
    "ValueError: numpy.dtype size changed, may indicate binary incompatibility. Expected 96 from C header, got 88 from"
    " PyObject": "numpy-dtype-size-1-on-2",
    "ValueError: numpy.dtype size changed, may indicate binary incompatibility. Expected 88 from C header, got 96 from"
    " PyObject": "numpy-abi-newer",
    "ValueError: numpy.ufunc size changed, may indicate binary incompatibility. Expected 216 from C header, got 192"
    " from PyObject": "numpy-size-changed",
    "ImportError: numpy.core.multiarray failed to import": "numpy-size-changed",
    "RuntimeError: Numpy is not available": "numpy-not-available",
    "TypeError: Cannot interpret 'int64' as a data type": "dtype-not-understood",
    "TypeError: Cannot interpret 'torch.int64' as a data type": "dtype-not-understood",
    "ModuleNotFoundError: No module named 'numpy'": "numpy-missing",
    "ModuleNotFoundError: No module named 'numpy._core'": "numpy-missing",
    "ModuleNotFoundError: No module named 'torch'": "torch-missing",
    "ModuleNotFoundError: No module named 'torch._C'": "torch-missing",
    "AttributeError: partially initialized module 'torch' has no attribute 'ones'": "shadowed",
    "ImportError: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.34' not found": "glibc",
    "ImportError: /lib/libstdc++.so.6: version `GLIBCXX_3.4.29' not found": "glibc",
    "ImportError: libtorch_cuda.so: undefined symbol: ncclCommRegister": "undefined-symbol",
    "OSError: libtorch_cpu.so: file too short": "damaged-library",
    "OSError: libcublas.so.12: cannot open shared object file: No such file or directory": "shared-library",
    "ImportError: DLL load failed while importing _C: The specified module could not be found.": "shared-library",
    'OSError: [WinError 126] The specified module could not be found. Error loading "fbgemm.dll"': "shared-library",
    "ImportError: dlopen(_C.so, 0x0002): Library not loaded: @rpath/libomp.dylib": "shared-library",
    "OSError: libgomp.so.1: cannot allocate memory in static TLS block": "memory",
    "OMP: Error #15: Initializing libiomp5, but found libomp already initialized.": "openmp-twice",
    "RuntimeError: The NVIDIA driver on your system is too old (found version 11040).": "cuda-driver-old",
    "RuntimeError: CUDA error: no kernel image is available for execution on the device": "no-kernel",
    "FutureWarning: The pynvml package is deprecated.": "warning",
}


@pytest.mark.parametrize(("said", "name"), SAID.items())
def test_each_known_text_has_its_diagnosis(said: str, name: str) -> None:
    """What the real tools say is recognised, in the middle of other text too."""
    found = diagnose(f"Traceback (most recent call last):\n  File x\n{said}\nmore")
    assert found is not None
    assert found.name == name


def test_every_row_of_the_table_is_known_from_a_text() -> None:
    """No row is without an example (numpy-source-folder has its own test)."""
    assert {row.name for row in TABLE} - set(SAID.values()) == {"numpy-source-folder"}


def test_the_long_words_of_numpy_name_its_compiled_part() -> None:
    """NumPy's own page of advice is told from its first line."""
    found = diagnose("IMPORTANT: ... Importing the numpy C-extensions failed. This error can happen for many reasons")
    assert found is not None
    assert found.cause.startswith("NumPy's compiled part does not load")


def test_an_unknown_text_has_none() -> None:
    """A text that shows nothing known gives no diagnosis."""
    assert diagnose("ZeroDivisionError: division by zero") is None
    assert diagnose("ModuleNotFoundError: No module named 'numpydoc'") is None


def test_rows_are_whole() -> None:
    """Every row has a name of its own, a valid pattern, a cause and a remedy."""
    assert len({row.name for row in TABLE}) == len(TABLE)
    for row in TABLE:
        re.compile(row.pattern)
        assert row.cause
        assert row.remedy


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals")
def test_endings_are_named() -> None:
    """A status is shown as a signal, a Windows exception or an exit status."""
    assert [ending(-4), ending(-11), ending(3)] == ["SIGILL", "SIGSEGV", "exit status 3"]
    assert ending(0xC0000005) == "exception 0xC0000005"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals")
def test_the_words_of_a_dead_process_count_before_its_signal() -> None:
    """A known text explains an end better than the signal; without one the signal does."""
    assert diagnose_end(-6, "OMP: Error #15: twice")[0] == "two OpenMP runtimes were loaded into one process"
    assert diagnose_end(-9, "")[1] == "give it more memory"
    assert diagnose_end(1, "")[0] == "the process ended by itself"
