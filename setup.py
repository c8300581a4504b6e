"""What pyproject.toml cannot say: wheels and sdists bring configs and tools along, in dpt/.mim."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PACKAGED = Path('dpt', '.mim')


class BuildWithConfigsAndTools(build_py):
    """Copies configs and tools into the package, except where it is installed in place."""

    def _shipped(self) -> list[str]:
        files = [file for kind in ('configs', 'tools') for file in Path(kind).rglob('*')]
        return sorted(str(file) for file in files if file.suffix in ('.py', '.sh'))

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for file in self._shipped():
                target = Path(self.build_lib, PACKAGED, file)
                target.parent.mkdir(parents=True, exist_ok=True)
                self.copy_file(file, str(target))

    def get_source_files(self) -> list[str]:
        return [*super().get_source_files(), *self._shipped(), 'requirements.txt']

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        copies = (
            [] if self.editable_mode else [str(Path(self.build_lib, PACKAGED, f)) for f in self._shipped()]
        )
        return [*super().get_outputs(include_bytecode), *copies]


setup(cmdclass={'build_py': BuildWithConfigsAndTools})
