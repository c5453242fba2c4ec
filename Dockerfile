# lorasmith in a container.
#
#   docker build -t lorasmith .                                                    for a CPU
#   docker build -t lorasmith --build-arg TORCH=cu130 --build-arg EXTRAS=cuda .    for NVIDIA cards
#   docker run --rm -it --gpus all -v "$PWD:/workspace" lorasmith demo
#
# TORCH is the name of an index on download.pytorch.org: docs/install.md says which driver takes which.
# NVIDIA's driver and container toolkit are the host's; CUDA comes with PyTorch.
FROM python:3.12-slim-bookworm AS build
ARG TORCH=cpu
ARG EXTRAS=optimizers
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/opt/lorasmith/bin:$PATH
RUN python -m venv /opt/lorasmith \
    && pip install "torch>=2.8" --index-url "https://download.pytorch.org/whl/${TORCH}"
WORKDIR /source
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY src src/
# The versions that the release was tested with; PyTorch is there already, in the build that fits.
RUN grep -v '^torch==' constraints.txt > tested.txt \
    && pip install --constraint tested.txt ".[${EXTRAS}]"

FROM python:3.12-slim-bookworm
# performance.compile compiles, with what the machine has: C++ on a CPU, C for Triton on a GPU.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 lorasmith \
    && install --directory --owner lorasmith /workspace
COPY --from=build /opt/lorasmith /opt/lorasmith
# Pictures, models, runs and what is loaded from hubs are in /workspace, and outlive the container.
ENV PATH=/opt/lorasmith/bin:$PATH \
    HF_HOME=/workspace/.cache/huggingface \
    XDG_CACHE_HOME=/workspace/.cache \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000
WORKDIR /workspace
VOLUME ["/workspace"]
ENTRYPOINT ["lorasmith"]
CMD ["--help"]
