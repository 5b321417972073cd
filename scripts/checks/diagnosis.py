"""Causes and remedies of the failures that environments of torch and numpy are known for."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass

OLD_TORCH = "install numpy<2 (`pip install 'numpy==1.26.4'`), or torch>=2.4.1, which takes NumPy 2"
REBUILD = "install a release of the named extension that was built for the installed NumPy, or the NumPy that it wants"


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """A known failure: `pattern` is searched in what the failing process said."""

    name: str
    pattern: str
    cause: str
    remedy: str


# The first match counts: the precise ones stand before the general ones.
TABLE = (
    Diagnosis(
        name="numpy-abi",
        pattern=r"_ARRAY_API not found|compiled (using|against) NumPy 1\.x"
        r"|ABI version 0x1[0-9a-f]{6} but this version of numpy is 0x2",
        cause="NumPy ABI mismatch: an extension (usually torch itself) was compiled against NumPy 1.x, and NumPy 2 is"
        " installed",
        remedy=OLD_TORCH,
    ),
    Diagnosis(
        name="numpy-abi-newer",
        pattern=r"API version 0x[0-9a-f]+ .*but (the running NumPy|this version of numpy)"
        r"|numpy\.dtype size changed.*Expected 88 from C header, got 96",
        cause="NumPy ABI mismatch: an extension was compiled against a newer NumPy than the installed one",
        remedy=REBUILD,
    ),
    # numpy.dtype has 96 bytes in NumPy 1 and 88 in NumPy 2 (np.dtype.__basicsize__).
    Diagnosis(
        name="numpy-dtype-size-1-on-2",
        pattern=r"numpy\.dtype size changed.*Expected 96 from C header, got 88",
        cause="NumPy ABI mismatch: an extension was compiled against NumPy 1.x, NumPy 2 is installed",
        remedy="install numpy<2 (`pip install 'numpy==1.26.4'`), or a release of the extension built for NumPy 2",
    ),
    Diagnosis(
        name="numpy-size-changed",
        pattern=r"numpy\.\w+ size changed|numpy\.core\.multiarray failed to import"
        r"|ABI version 0x[0-9a-f]+ but this version",
        cause="NumPy ABI mismatch: an extension was compiled against another NumPy than the installed one",
        remedy=REBUILD,
    ),
    Diagnosis(
        name="numpy-missing",
        pattern=r"No module named '?numpy(\.[\w.]+)?'?(?![\w])",
        cause="NumPy is not installed, or only in part",
        remedy="pip install the numpy of the lock (for torch 2.2: `pip install 'numpy==1.26.4'`)",
    ),
    Diagnosis(
        name="numpy-not-available",
        pattern=r"(?i)numpy is not available",
        cause="torch's bridge to NumPy is dead: NumPy is missing, or of a generation that this torch was not built for",
        remedy=OLD_TORCH,
    ),
    Diagnosis(
        name="dtype-not-understood",
        pattern=r"Cannot interpret '[^']*' as a data type",
        cause="a dtype that NumPy does not know was handed to it: it belongs to another library (torch.int64 is not"
        " np.int64), or to one that was made for another NumPy generation",
        remedy="install the versions of the lock together; in your own code name the dtype ('int64'), or use"
        " tensor.numpy().dtype",
    ),
    Diagnosis(
        name="numpy-source-folder",
        pattern=r"(?i)numpy from its source directory|Importing the numpy C-extensions failed",
        cause="NumPy's compiled part does not load: it belongs to another Python or platform, or is damaged",
        remedy="pip install --force-reinstall the numpy of the lock with this very Python",
    ),
    Diagnosis(
        name="torch-missing",
        pattern=r"No module named '?torch(\.[\w.]+)?'?(?![\w])",
        cause="torch is not installed, or only in part",
        remedy="make env-<profile>, or pip install -r the lock's requirements.txt",
    ),
    Diagnosis(
        name="shadowed",
        pattern=r"partially initialized module '(torch|numpy)'",
        cause="a file or folder named like the package hides it",
        remedy="rename your own torch.py, numpy.py or folder of that name, or take it out of PYTHONPATH",
    ),
    Diagnosis(
        name="glibc",
        pattern=r"version [`']GLIBC(XX)?_[\d.]+' not found",
        cause="the system's C or C++ library is older than the one that the wheel was built for",
        remedy="use a newer distribution, or a wheel with an older manylinux tag",
    ),
    Diagnosis(
        name="undefined-symbol",
        pattern=r"undefined symbol|Symbol not found|procedure could not be found",
        cause="two libraries of different builds were mixed (for example torch and a CUDA library of another release)",
        remedy="install the whole lock into an empty environment, and unset LD_LIBRARY_PATH",
    ),
    Diagnosis(
        name="damaged-library",
        pattern=r"invalid ELF header|file too short|wrong ELF class|not a valid Win32 application"
        r"|incompatible architecture",
        cause="a shared library is damaged or of another machine",
        remedy="install again for this very platform; check for a file that was cut short",
    ),
    Diagnosis(
        name="shared-library",
        pattern=r"cannot open shared object file|DLL load failed|Error loading \"|Library not loaded|image not found",
        cause="a shared library is missing (the named one, or one that it needs)",
        remedy="install every package of the lock, the nvidia-* ones too; on Windows the Visual C++ runtime",
    ),
    Diagnosis(
        name="memory",
        pattern=r"failed to map segment|Cannot allocate memory|MemoryError|static TLS block",
        cause="there is not enough memory, or it may not be mapped executable",
        remedy="give the process or container more memory, and mount the environment without noexec",
    ),
    Diagnosis(
        name="openmp-twice",
        pattern=r"OMP: Error #15",
        cause="two OpenMP runtimes were loaded into one process",
        remedy="install numpy and torch from one source (both wheels, or both conda packages)",
    ),
    Diagnosis(
        name="cuda-driver-old",
        pattern=r"driver on your system is too old|CUDA driver version is insufficient",
        cause="the NVIDIA driver is older than the CUDA release of the build",
        remedy="update the driver, or use a torch built for an older CUDA release",
    ),
    Diagnosis(
        name="no-kernel",
        pattern=r"no kernel image is available|not compatible with the current PyTorch installation"
        r"|not covered by the build",
        cause="the build holds no code for this GPU's architecture",
        remedy="use a torch build whose list of architectures has it (torch.cuda.get_arch_list())",
    ),
    Diagnosis(
        name="warning",
        pattern=r"\w*Warning: ",
        cause="importing gave a warning, and warnings are errors here",
        remedy="install the versions of the lock; the warning names what is wrong",
    ),
)
SIGNALS = {
    "SIGILL": ("the CPU, or its emulator, lacks an instruction that the build uses", "use a build for this CPU"),
    "SIGKILL": ("the process was killed, most often for lack of memory", "give it more memory"),
    "SIGSEGV": ("native code crashed: often libraries of different builds", "install the whole lock afresh"),
    "SIGABRT": ("native code gave up: its last words are in the detail", "install the whole lock afresh"),
    "SIGBUS": ("memory or a mapped file went away: often a full disk or /dev/shm", "free space, and try again"),
}


def diagnose(text: str) -> Diagnosis | None:
    """Return the first known failure that a text shows."""
    flat = " ".join(text.split())
    return next((row for row in TABLE if re.search(row.pattern, flat)), None)


def ending(status: int) -> str:
    """Name how a process ended: a signal, a Windows exception code, or an exit status."""
    if status < 0:
        try:
            return signal.Signals(-status).name
        except ValueError:
            return f"signal {-status}"
    return f"exception 0x{status:08X}" if status > 0xFFFF else f"exit status {status}"


def diagnose_end(status: int, text: str) -> tuple[str, str]:
    """Return cause and remedy for a process that died, from what it said or from its signal."""
    found = diagnose(text)
    if found is not None and found.name != "warning":
        return found.cause, found.remedy
    return SIGNALS.get(ending(status), ("the process ended by itself", "run it under `python -X faulthandler`"))
