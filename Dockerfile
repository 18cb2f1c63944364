# Baihua for CPUs: chat page and API. See docs/serving.md.
FROM python:3.12-slim
# An index that has torch's build for CPUs, which is smaller: docker build --build-arg TORCH_INDEX=https://...
ARG TORCH_INDEX=
# torch and llama.cpp share OpenMP's threads.
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/baihua
COPY constraints.txt pyproject.toml README.md LICENSE ./
RUN pip install --no-cache-dir --constraint constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch
COPY src src
RUN pip install --no-cache-dir --constraint constraints.txt .
RUN useradd --create-home baihua
USER baihua
WORKDIR /home/baihua
EXPOSE 8080
ENTRYPOINT ["baihua"]
