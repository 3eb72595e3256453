# One image for the web process, the worker, the beat and manage.py; docker-compose.yml says which runs what.
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore

RUN useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin mainstay

WORKDIR /app

# Before the source, so that only a changed requirements.txt installs the packages again.
COPY requirements.txt ./
RUN pip install --requirement requirements.txt

# What .dockerignore lets through, and nothing else. It belongs to root: the processes cannot change their own code.
COPY . .

# Where mails are put while no EMAIL_HOST is set.
RUN install --directory --mode 0700 --owner mainstay .data/mail

USER mainstay
EXPOSE 8000

# Database, Redis and migrations, as seen by the web process. The other services replace this check by their own.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]

# What `manage.py up` runs too (config/embedded/parts.py).
CMD ["python", "-m", "config.serve", "--host", "0.0.0.0", "--port", "8000", "--workers", "2"]
