"""The only settings module: everything that differs between installations comes from the environment.

`.env.example` names every variable. A missing or senseless value stops the start with a sentence that says
how to mend it.
"""

from __future__ import annotations

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from celery.schedules import crontab
from django.core.exceptions import ImproperlyConfigured
from django.templatetags.static import static
from django.urls import reverse_lazy

from config import passwords
from config.embedded import paths
from config.logs import logging_config
from config.navigation import NAVIGATION

BASE_DIR = Path(__file__).resolve().parent.parent


def env(name: str, default: str = "") -> str:
    return os.environ.get(name, default).strip()


def env_int(name: str, default: int, *, least: int | None = None) -> int:
    value = env(name, str(default))
    try:
        number = int(value)
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a whole number, not {value!r}.") from None
    if least is not None and number < least:
        raise ImproperlyConfigured(f"{name} must be at least {least}, not {number}.")
    return number


def env_bool(name: str, default: bool = False) -> bool:
    value = env(name, "true" if default else "false").lower()
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"0", "false", "no", "off", ""}:
        return False
    raise ImproperlyConfigured(f"{name} must be true or false, not {value!r}.")


def env_rate(name: str, default: str) -> str:
    value = env(name, default)
    if not re.fullmatch(r"\d+/\d*[smhd]", value):
        raise ImproperlyConfigured(f"{name} must be a rate such as 30/m (s, m, h or d), not {value!r}.")
    return value


def checked_url(name: str, value: str) -> str:
    """`value`, if it is empty or a link can begin with it."""
    if value and not re.fullmatch(r"https?://[^\s/?#]+(/\S*)?[^\s/]", value):
        example = "https://mainstay.example.com, without a slash at the end"
        raise ImproperlyConfigured(f"{name} must be an address such as {example}, not {value!r}.")
    return value


def checked_link(name: str, value: str) -> str:
    """`value`, if it is empty or a link with a place for its token."""
    if value and not re.fullmatch(r"https?://[^\s/?#]+/\S*\{token\}\S*", value):
        raise ImproperlyConfigured(f"{name} must look like https://example.com/?token={{token}}, not {value!r}.")
    return value


def env_list(name: str, default: str = "") -> list[str]:
    return [item.strip() for item in env(name, default).split(",") if item.strip()]


def env_origins(name: str) -> list[str]:
    """Origins as browsers write them: in small letters, without a path and without the scheme's own port."""
    origins = [origin.lower() for origin in env_list(name)]
    for origin in origins:
        if not re.fullmatch(r"https?://([a-z0-9-]+(\.[a-z0-9-]+)*|\[[0-9a-f:]+\])(:[1-9]\d{0,4})?", origin):
            raise ImproperlyConfigured(
                f"{name} must hold origins such as https://app.example.com, without a path or a *, not {origin!r}."
            )
    return [origin.removesuffix(":443" if origin.startswith("https:") else ":80") for origin in origins]


# Secrets ---------------------------------------------------------------------------------------------------------

INSECURE_SECRET = "insecure-development-secret-that-production-refuses"  # noqa: S105
INSECURE_ENCRYPTION_KEY = "aW5zZWN1cmUtZGV2ZWxvcG1lbnQta2V5LTAwMDAwMDA="

_generated = paths.secrets()
DEBUG = env_bool("DJANGO_DEBUG")
SECRET_KEY = env("SECRET_KEY") or _generated.get("SECRET_KEY", INSECURE_SECRET)
JWT_SECRET_KEY = env("JWT_SECRET_KEY") or _generated.get("JWT_SECRET_KEY", INSECURE_SECRET)
FIELD_ENCRYPTION_KEYS = env_list("FIELD_ENCRYPTION_KEYS") or [
    _generated.get("FIELD_ENCRYPTION_KEYS", INSECURE_ENCRYPTION_KEY)
]

# Hosts -----------------------------------------------------------------------------------------------------------

ALLOWED_HOSTS = env_list("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
CSRF_TRUSTED_ORIGINS = env_list("CSRF_TRUSTED_ORIGINS")
BEHIND_TLS = env_bool("BEHIND_TLS")
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_TLS else None
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = BEHIND_TLS
SECURE_HSTS_SECONDS = 31_536_000 if BEHIND_TLS else 0
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = 24 * 3600
X_FRAME_OPTIONS = "DENY"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
# How many proxies in front of us append to X-Forwarded-For; 0 trusts the peer address alone.
TRUSTED_PROXIES = env_int("TRUSTED_PROXIES", 0)
# Whose pages may call the API out of a browser.
CORS_ALLOWED_ORIGINS = env_origins("CORS_ALLOWED_ORIGINS")
CORS_URLS_REGEX = r"^/(api|v1)/"
CORS_ALLOW_HEADERS = [
    *("authorization", "content-type", "idempotency-key", "x-api-key", "x-conversation-id", "x-on-behalf-of"),
    "x-request-id",
    # What OpenAI's own client for browsers sends along.
    *(f"x-stainless-{name}" for name in ("arch", "helper-method", "lang", "os", "package-version", "retry-count")),
    *(f"x-stainless-{name}" for name in ("runtime", "runtime-version", "timeout")),
]
CORS_EXPOSE_HEADERS = [
    *("retry-after", "x-request-id", "x-should-retry", "x-quota-reset"),
    *(f"x-ratelimit-{what}-{unit}" for what in ("limit", "remaining", "reset") for unit in ("requests", "tokens")),
]

# How people reach this installation: links in mails begin with it.
PUBLIC_URL = checked_url("PUBLIC_URL", env("PUBLIC_URL")) or f"http://127.0.0.1:{env('PORT', '8000')}"

# Applications ----------------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "unfold.apps.BasicAppConfig",
    "unfold.contrib.filters",
    "accounts.apps.OperatorAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "axes",
    "config",
    "accounts",
    "quotas",
    "inference",
    "prompts",
    "conversations",
    "analytics",
]

MIDDLEWARE = [
    "config.middleware.RequestMiddleware",
    "config.cors.ApiCorsMiddleware",
    "config.middleware.PageSecurityMiddleware",
    "config.content_security.PagePolicyMiddleware",
    "config.middleware.PageStaticMiddleware",
    "config.middleware.PageSessionMiddleware",
    "config.middleware.PageCsrfMiddleware",
    "config.middleware.PageAuthenticationMiddleware",
    "config.middleware.PageMessageMiddleware",
    "config.middleware.PageFrameMiddleware",
]

ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
WSGI_APPLICATION = "config.wsgi.application"
APPEND_SLASH = False

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# PostgreSQL ------------------------------------------------------------------------------------------------------

DATABASE_POOL_SIZE = env_int("DATABASE_POOL_SIZE", 10)
DATABASE_MAX_OVERFLOW = env_int("DATABASE_MAX_OVERFLOW", 20)
# Threads of each web process that run the two transactions of asynchronous calls; each keeps one connection.
SERVICE_THREADS = env_int("SERVICE_THREADS", max(1, min(4, DATABASE_POOL_SIZE // 2)))


def database_params() -> dict[str, Any]:
    """Where PostgreSQL is: DATABASE_URL, else POSTGRES_*, else the embedded server."""
    if url := env("DATABASE_URL"):
        parts = urlsplit(url)
        if parts.scheme not in {"postgres", "postgresql"}:
            raise ImproperlyConfigured("DATABASE_URL must look like postgresql://user:password@host:5432/name.")
        return {
            "HOST": parts.hostname or "",
            "PORT": str(parts.port or ""),
            "USER": unquote(parts.username or ""),
            "PASSWORD": unquote(parts.password or ""),
            "NAME": unquote(parts.path.lstrip("/")),
        }
    if env("POSTGRES_HOST"):
        return {
            "HOST": env("POSTGRES_HOST"),
            "PORT": env("POSTGRES_PORT", "5432"),
            "USER": env("POSTGRES_USER", "postgres"),
            "PASSWORD": env("POSTGRES_PASSWORD"),
            "NAME": env("POSTGRES_DB", "mainstay"),
        }
    embedded = paths.postgres_params()
    return {
        "HOST": embedded["host"],
        "PORT": str(embedded["port"]),
        "USER": embedded["user"],
        "PASSWORD": "",
        "NAME": embedded["dbname"],
    }


DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        **database_params(),
        "CONN_MAX_AGE": 0,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {
            # So that pg_stat_activity tells whose a connection is.
            "application_name": env("APPLICATION_NAME", "mainstay"),
            "server_side_binding": True,
            "prepare_threshold": 2,
            "pool": {
                "min_size": 1,
                "max_size": DATABASE_POOL_SIZE + DATABASE_MAX_OVERFLOW,
                "timeout": 5,
                # After a failed attempt the pool waits ever longer before the next. It shall rather give up soon:
                # whoever asks for a connection then makes it try again.
                "reconnect_timeout": 1,
            },
            "options": "-c lock_timeout=10s -c idle_in_transaction_session_timeout=60s",
        },
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Redis -----------------------------------------------------------------------------------------------------------


def redis_url() -> str:
    """Where Redis is: REDIS_URL, else REDIS_*, else the embedded server."""
    if env("REDIS_URL"):
        return env("REDIS_URL")
    if env("REDIS_HOST"):
        return f"redis://{env('REDIS_HOST')}:{env('REDIS_PORT', '6379')}/{env('REDIS_DB', '0')}"
    return paths.redis_url()


REDIS_URL = redis_url()
REDIS_OPTIONS = {
    "CLIENT_CLASS": "django_redis.client.DefaultClient",
    "CONNECTION_POOL_KWARGS": {"socket_timeout": 5, "socket_connect_timeout": 2},
}
CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": REDIS_URL,
        "OPTIONS": REDIS_OPTIONS,
        "KEY_PREFIX": "cache",
    },
    "ratelimit": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": REDIS_URL,
        "OPTIONS": REDIS_OPTIONS | {"IGNORE_EXCEPTIONS": True},
        "KEY_PREFIX": "ratelimit",
    },
}
SESSION_ENGINE = "django.contrib.sessions.backends.cache"

# Celery ----------------------------------------------------------------------------------------------------------

CELERY_BROKER_URL = paths.celery_url(REDIS_URL)
CELERY_RESULT_BACKEND = None
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_TIME_LIMIT = 600
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# Requests enqueue too, and do without a broker that is away: nobody waits for it.
CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_connect_timeout": 2, "max_retries": 0}
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULE = {
    "sweep-reservations": {"task": "inference.tasks.sweep_reservations", "schedule": timedelta(seconds=30)},
    "reset-quotas": {"task": "quotas.tasks.reset_quotas", "schedule": timedelta(minutes=5)},
    "flush-exposures": {"task": "quotas.tasks.flush_exposures", "schedule": timedelta(minutes=5)},
    "rollup-usage": {"task": "analytics.tasks.rollup_usage", "schedule": crontab(minute="*/10")},
    "cleanup": {"task": "config.tasks.cleanup", "schedule": crontab(minute=17)},
}

# Accounts --------------------------------------------------------------------------------------------------------

AUTH_USER_MODEL = "accounts.User"
PASSWORD_HASHERS = passwords.hashers()
AUTH_PASSWORD_VALIDATORS = passwords.validators(
    env_list("PASSWORD_VALIDATORS", "similarity,length,common,numeric"), min_length=env_int("PASSWORD_MIN_LENGTH", 10)
)
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
REQUIRE_OPERATOR_2FA = env_bool("REQUIRE_OPERATOR_2FA")
# Wrong passwords, counted in the database: a flushed Redis must not end a lock. `accounts.sign_in` says what is locked.
AXES_HANDLER = "axes.handlers.database.AxesDatabaseHandler"
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT = env_int("LOGIN_FAILURE_LIMIT", 10, least=1)
AXES_COOLOFF_TIME = timedelta(minutes=env_int("LOGIN_COOLOFF_MINUTES", 15, least=1))
AXES_RESET_ON_SUCCESS = True
# Trying on must not make a lock longer, or whoever knows an address could shut its owner out for good.
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_USERNAME_FORM_FIELD = "username"
AXES_USERNAME_CALLABLE = "accounts.sign_in.counted_name"
AXES_CLIENT_IP_CALLABLE = "accounts.authentication.client_ip"
AXES_SENSITIVE_PARAMETERS = ["username", "password", "csrfmiddlewaretoken"]
# The audit events say who signed in; a list of failures by address is nothing to browse.
AXES_DISABLE_ACCESS_LOG = True
AXES_ENABLE_ADMIN = AXES_VERBOSE = False
# It only turns locks into answers, which config/errors.py does here.
SILENCED_SYSTEM_CHECKS = ["axes.W002"]
# How long a Redis snapshot of a key or user is believed when nothing drops it before.
AUTH_SNAPSHOT_SECONDS = 60
RATELIMIT_REGISTRATION = env_rate("RATELIMIT_REGISTRATION", "20/m")
RATELIMIT_TOKEN = env_rate("RATELIMIT_TOKEN", "30/m")
RATELIMIT_RESET = env_rate("RATELIMIT_RESET", "10/m")
# What one address may ask without credentials, over all views together.
RATELIMIT_ANONYMOUS = env_rate("RATELIMIT_ANONYMOUS", "300/m")
# What one address may tell us by webhooks: few machines send those of all customers.
RATELIMIT_WEBHOOK = env_rate("RATELIMIT_WEBHOOK", "6000/m")
RATELIMIT_IP_META_KEY = "REMOTE_ADDR"
RATELIMIT_USE_CACHE = "ratelimit"
# What cannot be counted is let in: without Redis nobody could sign in any more.
RATELIMIT_FAIL_OPEN = True

ACCESS_TOKEN_LIFETIME = timedelta(hours=env_int("JWT_EXPIRE_HOURS", 1))
SIMPLE_JWT = {
    "SIGNING_KEY": JWT_SECRET_KEY,
    "ALGORITHM": "HS256",
    "ACCESS_TOKEN_LIFETIME": ACCESS_TOKEN_LIFETIME,
    "REFRESH_TOKEN_LIFETIME": timedelta(days=env_int("JWT_REFRESH_DAYS", 14)),
    "USER_ID_FIELD": "id",
    # So that a token of another service that shares the secret is worth nothing here.
    "AUDIENCE": "mainstay",
    "ISSUER": "mainstay",
}

# Mail ------------------------------------------------------------------------------------------------------------

EMAIL_HOST = env("EMAIL_HOST")
EMAIL_PORT = env_int("EMAIL_PORT", 587)
EMAIL_HOST_USER = env("EMAIL_HOST_USER")
EMAIL_HOST_PASSWORD = env("EMAIL_HOST_PASSWORD")
EMAIL_USE_SSL = env_bool("EMAIL_USE_SSL")
EMAIL_USE_TLS = env_bool("EMAIL_USE_TLS", not EMAIL_USE_SSL)
if EMAIL_USE_TLS and EMAIL_USE_SSL:
    raise ImproperlyConfigured("EMAIL_USE_TLS and EMAIL_USE_SSL exclude each other: set one of them to false.")
EMAIL_TIMEOUT = 10
EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend" if EMAIL_HOST else "accounts.mail.FileBackend"
EMAIL_FILE_PATH = paths.MAIL_DIR
DEFAULT_FROM_EMAIL = env("DEFAULT_FROM_EMAIL", "Mainstay <mainstay@localhost>")
# Where the links in mails lead: to pages of ours, or to those of a product's own front end.
VERIFY_EMAIL_URL = (
    checked_link("VERIFY_EMAIL_URL", env("VERIFY_EMAIL_URL")) or f"{PUBLIC_URL}/verify-email?token={{token}}"
)
PASSWORD_RESET_URL = (
    checked_link("PASSWORD_RESET_URL", env("PASSWORD_RESET_URL")) or f"{PUBLIC_URL}/reset-password?token={{token}}"
)

# The road --------------------------------------------------------------------------------------------------------

MODELS_URL = env("MODELS_URL", "http://127.0.0.1:8011/v1")
# Output tokens held for a call that names no max_tokens, on a model that has no maximum of its own.
DEFAULT_OUTPUT_TOKENS = env_int("DEFAULT_OUTPUT_TOKENS", 1024)
# A whole call, first to last byte, may take this long; its hold lives a minute longer.
CALL_DEADLINE_SECONDS = env_int("CALL_DEADLINE_SECONDS", 600)
HOLD_GRACE_SECONDS = env_int("HOLD_GRACE_SECONDS", 60)
# Reservations that clients make over the API live this long unless they ask for less.
RESERVATION_SECONDS = env_int("RESERVATION_SECONDS", 900)
MAX_BODY_BYTES = env_int("MAX_BODY_BYTES", 10 * 1024 * 1024)
MAX_JSON_DEPTH = env_int("MAX_JSON_DEPTH", 32)
# What the request history keeps of each body.
HISTORY_BYTES = env_int("HISTORY_BYTES", 8 * 1024)
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_BODY_BYTES
FILE_UPLOAD_MAX_MEMORY_SIZE = MAX_BODY_BYTES

# API -------------------------------------------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["accounts.authentication.CallerAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["accounts.permissions.ScopePermission"],
    "DEFAULT_THROTTLE_CLASSES": ["quotas.throttling.RateThrottle"],
    "DEFAULT_RENDERER_CLASSES": ["drf_orjson_renderer.renderers.ORJSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["config.parsers.StrictJSONParser"],
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_PAGINATION_CLASS": "config.pagination.NewestFirstPagination",
    "DEFAULT_SCHEMA_CLASS": "config.schema.ScopedSchema",
    "EXCEPTION_HANDLER": "config.errors.exception_handler",
    "UNAUTHENTICATED_USER": None,
    "DEFAULT_METADATA_CLASS": None,
    "PAGE_SIZE": 50,
}

SPECTACULAR_SETTINGS = {
    "TITLE": "Mainstay",
    "DESCRIPTION": "The backend behind an AI product: accounts, quotas, a metered road to models, conversations.",
    "VERSION": "1.0.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SCHEMA_PATH_PREFIX": r"/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "config.schema.add_openai_surface",
    ],
    "ENUM_NAME_OVERRIDES": {
        "Resource": "quotas.meters.Resource",
        "Unit": "quotas.meters.Unit",
        "Period": "quotas.meters.Period",
        "RequestStatus": "inference.models.Request.Status",
        "ReservationStatus": "quotas.models.Reservation.Status",
    },
    "AUTHENTICATION_WHITELIST": ["accounts.authentication.CallerAuthentication"],
}

# Admin -----------------------------------------------------------------------------------------------------------

UNFOLD = {
    "SITE_TITLE": "Mainstay",
    "SITE_HEADER": "Mainstay",
    "SITE_SUBHEADER": "Operators",
    "SITE_SYMBOL": "hub",
    "SITE_URL": None,
    "SITE_DROPDOWN": [{"icon": "api", "title": "API reference", "link": reverse_lazy("docs")}],
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "DASHBOARD_CALLBACK": "analytics.dashboard.dashboard",
    "ACCOUNT": {
        "navigation": [
            {"title": "Two-factor sign-in", "link": reverse_lazy("admin:two_factor")},
            {"title": "Change password", "link": reverse_lazy("admin:password_change")},
        ]
    },
    "STYLES": [lambda _request: static("config/admin.css")],
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": lambda _request: static("config/favicon.svg")}],
    "SIDEBAR": {
        "show_search": True,
        "navigation": NAVIGATION,
    },
}

# Files, language, logs -------------------------------------------------------------------------------------------

STATIC_URL = "/static/"
# Files are served from where the apps keep them: there is nothing to collect.
STATIC_ROOT = None
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = WHITENOISE_ALLOW_ALL_ORIGINS = False

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = True
FORMAT_MODULE_PATH = ["config.formats"]

LOGGING_CONFIG = "logging.config.dictConfig"
LOGGING = logging_config(level=env("LOG_LEVEL", "INFO").upper())
