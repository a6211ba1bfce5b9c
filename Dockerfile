# docker build -t expert-collapse-lab . && docker run --rm -p 8501:8501 expert-collapse-lab
FROM python:3.11-slim

# Which of torch's builds: plain pip brings the one with gigabytes for graphics cards that are not there.
ARG TORCH_BACKEND=cpu
# With a Chromium, for `python -m moe_sim figures` in the container: --build-arg FIGURES=yes. The app needs none; it is
# 290 MB, and what it depends on.
ARG FIGURES=no
RUN if [ "$FIGURES" = yes ]; then \
      apt-get update && apt-get install -y --no-install-recommends chromium && rm -rf /var/lib/apt/lists/*; \
    fi

WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir uv==0.13.9 \
    && uv pip install --system --no-cache --torch-backend "$TORCH_BACKEND" -r requirements.txt \
    && pip uninstall --yes uv
COPY .streamlit .streamlit
COPY moe_sim moe_sim
COPY pages pages
COPY app.py ./
RUN python -m compileall -q app.py moe_sim pages

# Nothing is written while it runs, so the files may belong to root. Some hosts insist on user 1000.
RUN useradd --create-home --uid 1000 lab
USER lab
ENV MOE_SIM_LOG=json \
    STREAMLIT_LOGGER_HIDE_WELCOME_MESSAGE=true
EXPOSE 8501
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8501/_stcore/health', timeout=4)"]
# In this form SIGTERM reaches the server itself, which ends within seconds.
CMD ["streamlit", "run", "app.py", "--server.headless", "true", "--server.address", "0.0.0.0", "--server.port", "8501"]
