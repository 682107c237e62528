# The lab and `e2crf serve` in one image; docs/deployment.md explains how to run it.
#   docker build --tag e2crf-lab .                             CPU
#   docker build --tag e2crf-lab --build-arg DEVICE=cuda .     NVIDIA GPUs; run with --gpus all
FROM python:3.11-slim-bookworm

ARG DEVICE=cpu
# Where pip finds the CPU build of PyTorch; its hash is in requirements.lock, as is that of the CUDA build.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

WORKDIR /lab
COPY requirements.lock requirements-cuda.lock ./
RUN case "$DEVICE" in \
      cpu) pip install --require-hashes --extra-index-url "$TORCH_INDEX" --requirement requirements.lock ;; \
      cuda) pip install --require-hashes --requirement requirements.lock --requirement requirements-cuda.lock ;; \
      *) echo "DEVICE must be cpu or cuda"; exit 1 ;; \
    esac

COPY LICENSE NOTICE app.py ./
COPY .streamlit .streamlit
COPY assets assets
COPY e2crf_core e2crf_core
COPY pages pages

# Data sets and checkpoints of one's own; mount a volume here to keep them.
RUN useradd --create-home --uid 10001 lab && install --directory --owner lab /data
ENV E2CRF_HOME=/data
VOLUME /data
USER lab

# Inside the container every interface; publish the port on 127.0.0.1 of the host, or leave that to a proxy.
ENV STREAMLIT_SERVER_ADDRESS=0.0.0.0 \
    STREAMLIT_SERVER_HEADLESS=true
EXPOSE 8501
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8501/_stcore/health', timeout=4)"]
CMD ["python", "-m", "streamlit", "run", "app.py"]
