# syntax=docker/dockerfile:1
# The day:    docker build -t recsys .                    about what `pip install .` brings, no torch
# The night:  docker build -t recsys-night --target night .

ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS day-packages
WORKDIR /src
RUN python -m venv /opt/recsys
ENV PATH=/opt/recsys/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY features features
COPY recsys recsys
COPY jobs jobs
COPY api api
# otel, to send traces
ARG EXTRAS=
RUN pip install -c constraints.txt ".${EXTRAS:+[${EXTRAS}]}"

FROM day-packages AS night-packages
# without the index torch brings gigabytes of CUDA; leave it out where the night has a GPU
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install -c constraints.txt --extra-index-url "${TORCH_INDEX}" '.[night]'

FROM python:${PYTHON}-slim AS base
RUN useradd --system --uid 10001 --create-home recsys && install -d -o recsys /data
ENV PATH=/opt/recsys/bin:$PATH PYTHONUNBUFFERED=1 RECSYS_DATA_DIR=/data
WORKDIR /home/recsys
USER 10001
VOLUME /data

FROM base AS night
COPY --from=night-packages /opt/recsys /opt/recsys
ENTRYPOINT ["python", "-m", "jobs"]
CMD ["night"]

FROM base AS day
COPY --from=day-packages /opt/recsys /opt/recsys
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --start-period=30s CMD ["python", "-c", \
  "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/healthz', timeout=3)"]
ENTRYPOINT ["python", "-m", "api", "--host", "0.0.0.0"]
CMD ["--log-format", "json"]
