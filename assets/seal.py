"""Write the digests of all shipped files again, after an intended change: `python assets/seal.py`."""

from __future__ import annotations

from pathlib import Path

from e2crf_core.io.sets import DIGESTS, write_set

HERE = Path(__file__).resolve().parent
FOLDERS = (HERE / "data", *(HERE / "checkpoints").iterdir())
KINDS = {".json", ".npz", ".safetensors"}


def main() -> None:
    """Replace `digests.json` in every folder of shipped files."""
    for folder in FOLDERS:
        (folder / DIGESTS).unlink(missing_ok=True)
        write_set(folder, {}, beside=[path.name for path in folder.iterdir() if path.suffix in KINDS])


if __name__ == "__main__":
    main()
